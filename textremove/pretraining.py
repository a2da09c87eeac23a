"""How the tiny preset is made from nothing, stage by stage: on procedural scenes, on one CPU.

Each stage reads what the one before left in a work folder and is skipped when its own output is there,
so a run that was stopped goes on where it was. The LoRA adapter is not made here: it comes from the
same job as any other adapter, `jobs.finetune_inpainter`.
"""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from textremove.atomic import atomic_dir, atomic_file
from textremove.checkpoint import read_manifest
from textremove.inpaint import pretraining as inpaint_training
from textremove.inpaint import tiny as tiny_inpainter
from textremove.pipe.absent import AbsentExamples
from textremove.pipe.prompts import RefinedPrompt, refine_prompt
from textremove.pipe.remnants import remnant
from textremove.pipe.scene_rows import scene_rows
from textremove.pipe.scenes import SceneConfig
from textremove.pipe.shapes import SHAPES
from textremove.places import PLACES, flip_place
from textremove.segment import training as segmenter_training
from textremove.segment.calibration import Calibration, choose, threshold_scores
from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.predictors import ConditionedUNetSegmenter
from textremove.segment.tiny import build_tiny_segmenter
from textremove.text import build_text_encoder, build_tokenizer

PRETRAINING_SEED = 1
"""Scenes of this seed train the shipped weights. Evaluate on any other: seeds share no scene."""

REMNANT_SHARE = 0.25
"""Of the counterparts that the segmenter is shown, so many have lost only a part of their object."""

MODEL_CARD = "README.md"

LATENTS = "latents.safetensors"

CALIBRATION_SEED = 2
"""Scenes of this seed choose the shipped segmenter's threshold and mask strategy."""

Progress = Callable[[str, int, int, float], None]
"""Called as progress(stage, step, num_steps, loss)."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How the tiny preset is made.

    Attributes:
        num_rows: Rows of procedural scenes to train on.
        num_latent_rows: Rows of them that the UNet is trained on.
        masks_per_row: Training masks drawn for each of those.
        segmenter_start: Folder of a segmenter to train on; from nothing when None.
        segmenter_steps: Optimizer steps of the segmenter.
        segmenter: Its loss, rates and batch size.
        vae: How the VAE is trained.
        decoder: How its decoder is sharpened once latents are fixed.
        unet: How the UNet is trained.
        scenes: What the scenes look like.
        start: Folder of a tiny inpainter to train on, its VAE kept as it is; from nothing when None.
        num_threads: CPU threads.
    """

    num_rows: int = 30_000
    num_latent_rows: int = 10_000
    masks_per_row: int = 1
    segmenter_start: Path | None = None
    segmenter_steps: int = 5_000
    segmenter: segmenter_training.SegmenterTrainConfig = field(
        default_factory=lambda: segmenter_training.SegmenterTrainConfig(
            batch_size=24, learning_rate=2e-3, text_learning_rate=2e-3, absent_share=0.5
        )
    )
    vae: inpaint_training.VaeTrainConfig = field(
        default_factory=lambda: inpaint_training.VaeTrainConfig(num_steps=1_800)
    )
    decoder: inpaint_training.VaeTrainConfig = field(
        default_factory=lambda: inpaint_training.VaeTrainConfig(num_steps=1_500, learning_rate=1e-3)
    )
    unet: inpaint_training.UnetTrainConfig = field(default_factory=inpaint_training.UnetTrainConfig)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    start: Path | None = None
    num_threads: int = 2


@dataclass(frozen=True, kw_only=True)
class SceneArrays:
    """Rows of procedural scenes, decoded.

    Attributes:
        pictures: uint8 (N, side, side, 3), objects included.
        truths: uint8 (N, side, side, 3), without the row's object.
        masks: uint8 (N, side, side), 0 or 255.
        prompts: N refined prompts.
        classes: What each mask covers: "ball".
        places: Where that is: "top left".
    """

    pictures: np.ndarray
    truths: np.ndarray
    masks: np.ndarray
    prompts: list[str]
    classes: list[str]
    places: list[str]


def _decode(cell: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))  # type: ignore[index]


def make_scene_arrays(num_rows: int, seed: int, scenes: SceneConfig, progress: Progress) -> SceneArrays:
    """Makes up the first `num_rows` rows of the scenes of a seed."""
    side = scenes.size
    pictures, truths = (np.empty((num_rows, side, side, 3), np.uint8) for _ in range(2))
    masks = np.empty((num_rows, side, side), np.uint8)
    said: list[RefinedPrompt] = []
    # Every scene gives at least one row, so as many scenes as rows are certainly enough.
    for k, row in zip(range(num_rows), scene_rows(seed, num_rows, scenes), strict=False):
        pictures[k], truths[k] = _decode(row["target_img"]), _decode(row["source_img"])
        masks[k] = _decode(row["mask"])
        said.append(refine_prompt(str(row["Instruction_Class"]), str(row["object_location"])))
        progress("scenes", k, num_rows, float("nan"))
    return SceneArrays(
        pictures=pictures,
        truths=truths,
        masks=masks,
        prompts=[one.prompt for one in said],
        classes=[one.object_class for one in said],
        places=[one.place for one in said],
    )


def vocabulary() -> list[str]:
    """The words that tiny tokenizers hold whole; all others are spelt out in bytes."""
    words = {"at", "the", *" ".join(PLACES).split()}
    for name, shape in SHAPES.items():
        words |= {name, shape.plural}
    return sorted(words)


def pretrain_segmenter(data: SceneArrays, work: Path, config: PretrainConfig, progress: Progress) -> None:
    """Trains the tiny segmenter and saves it to `work` / "segmenter"."""
    if config.segmenter_start is None:
        model = build_tiny_segmenter(vocabulary(), seed=config.segmenter.seed)
    else:
        model = ConditionedUNet.from_pretrained(config.segmenter_start)
    absent = AbsentExamples(share=1, classes=Counter(data.classes), seed=config.segmenter.seed)

    def counterpart(k: int, draw: str) -> tuple[np.ndarray, np.ndarray, str]:
        rng = np.random.default_rng([config.segmenter.seed, 41, *map(int, draw.split())])
        if rng.random() < REMNANT_SHARE:
            return *remnant(data.pictures[k], data.truths[k], data.masks[k], rng), data.prompts[k]
        row = absent.apply(
            {
                "example_id": draw,
                "object_class": data.classes[k],
                "place": data.places[k],
                "truth": data.truths[k],
                "image": data.pictures[k],
                "prompt": data.prompts[k],
            }
        )
        return row["image"], np.zeros_like(data.masks[k]), row["prompt"]

    segmenter_training.pretrain(
        model,
        data.pictures,
        data.masks,
        data.prompts,
        flip_prompt=flip_place,
        counterpart=counterpart,
        config=config.segmenter,
        num_steps=config.segmenter_steps,
        progress=progress,
        on_checkpoint=lambda step: model.save_pretrained(
            work / "segmenter-so-far", metadata={"steps": step}, overwrite=True
        ),
    )
    model.save_pretrained(work / "segmenter", metadata={"steps": config.segmenter_steps})


def pretrain_inpainter(data: SceneArrays, work: Path, config: PretrainConfig, progress: Progress) -> None:
    """Trains the tiny base inpainter and saves it as a diffusers pipeline to `work` / "inpainter".

    Its VAE, its latents and the UNet every few hundred steps are left in `work` too.
    """
    pipeline = _start_pipeline(data, work, config, progress)
    latents_file = work / LATENTS
    if not latents_file.is_file():
        latents = inpaint_training.build_latent_set(
            pipeline.vae,
            np.concatenate([data.pictures[: config.num_latent_rows]] * config.masks_per_row),
            np.concatenate([data.masks[: config.num_latent_rows]] * config.masks_per_row),
            data.classes[: config.num_latent_rows] * config.masks_per_row,
            seed=config.unet.seed,
        )
        with atomic_file(latents_file) as partial:
            latents.save(partial)
    inpaint_training.train_unet(
        pipeline.unet,
        pipeline.text_encoder,
        pipeline.tokenizer,
        pipeline.scheduler,
        inpaint_training.LatentSet.load(latents_file),
        config.unet,
        progress,
        on_checkpoint=lambda _: _save_pipeline(pipeline, work / "inpainter-so-far"),
    )
    _save_pipeline(pipeline, work / "inpainter")


def _start_pipeline(
    data: SceneArrays, work: Path, config: PretrainConfig, progress: Progress
) -> tiny_inpainter.Pipeline:
    """The pipeline whose UNet is to be trained: one to go on from, or a new one on a VAE trained now."""
    if config.start is not None:
        return tiny_inpainter.load_pipeline(config.start, dtype=torch.float32)
    torch.manual_seed(config.vae.seed)
    vae = tiny_inpainter.build_vae()
    if (work / "vae").is_dir():
        vae = type(vae).from_pretrained(work / "vae")
    else:
        inpaint_training.train_vae(vae, data.pictures[::3], config.vae, progress)
        inpaint_training.finetune_decoder(vae, data.pictures[::3], config.decoder, progress)
        with atomic_dir(work / "vae") as partial:
            vae.save_pretrained(partial)
    torch.manual_seed(config.unet.seed)
    tokenizer = build_tokenizer(vocabulary(), max_length=tiny_inpainter.PROMPT_LENGTH)
    text_encoder = build_text_encoder(tokenizer, width=tiny_inpainter.TEXT_WIDTH, num_layers=2)
    return tiny_inpainter.build_pipeline(vae, tiny_inpainter.build_unet(), text_encoder, tokenizer)


def _save_pipeline(pipeline: tiny_inpainter.Pipeline, folder: Path) -> None:
    with atomic_dir(folder, overwrite=True) as partial:
        pipeline.save_pretrained(partial)


def calibrate(model: ConditionedUNet, data: SceneArrays) -> Calibration:
    """Chooses threshold and mask strategy on scenes that the model was not trained on."""
    probabilities = ConditionedUNetSegmenter(model, batch_size=16).probabilities(
        list(data.pictures), data.prompts
    )
    return choose(threshold_scores(np.stack(probabilities), data.masks).mean(axis=0))


def pack(work: Path, out: Path, config: PretrainConfig, progress: Progress) -> None:
    """Packs what the stages left in a work folder as the preset's weights, in half precision.

    Args:
        work: With "segmenter", "inpainter" and "adapter".
        out: Gets folders of the same names; replaced as a whole.
        config: How they were made; kept in the manifests.
        progress: Told of the scenes that are made to calibrate on.
    """
    model = ConditionedUNet.from_pretrained(work / "segmenter")
    calibration = calibrate(model, make_scene_arrays(600, CALIBRATION_SEED, config.scenes, progress))
    # Not the box, whatever it scores: it is scored against boxes, and repaints what lies between two balls.
    calibration = replace(calibration, strategy="raw", threshold=calibration.thresholds["raw"])
    steps = read_manifest(work / "segmenter")["metadata"]["steps"]
    metadata = {
        **asdict(calibration),
        "prompt_format": "<what> at the <place>, lower case",
        "made_by": "python -m jobs.pretrain_tiny",
        "steps": steps,
        "scenes_seed": PRETRAINING_SEED,
        "training": asdict(config.segmenter),
    }
    pipeline = tiny_inpainter.load_pipeline(work / "inpainter", dtype=torch.float16)
    with atomic_dir(out, overwrite=True) as folder:
        model.save_pretrained(folder / "segmenter", metadata=metadata, dtype=torch.float16)
        pipeline.save_pretrained(folder / "inpainter")
        shutil.copytree(work / "adapter", folder / "adapter")
        if (out / MODEL_CARD).is_file():  # written by hand, for these weights and the next
            shutil.copy(out / MODEL_CARD, folder / MODEL_CARD)
