"""The tiny preset from nothing: scenes, segmenter, VAE, UNet, adapter, and the packed weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from tqdm import tqdm

from jobs._main import run
from jobs.recipes import INPAINTER_RECIPES
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.onray.finetune_inpainter import finetune_inpainter
from textremove.onray.prepare import PrepareConfig, prepare
from textremove.pipe.scene_rows import write_scene_shards
from textremove.presets import shipped
from textremove.pretraining import (
    PRETRAINING_SEED,
    PretrainConfig,
    SceneArrays,
    make_scene_arrays,
    pack,
    pretrain_inpainter,
    pretrain_segmenter,
)


@dataclass(frozen=True, kw_only=True)
class PretrainTinyConfig:
    """Where to work, and how.

    Attributes:
        work: Folder for what each stage leaves; a stage whose output is there is not run again.
        out: Folder for the packed weights; by default those that come with the package are replaced.
        adapter_scenes: Scenes that the adapter is fine-tuned on.
        adapter_examples: Training examples of them that are used.
        adapter: Its trainings, one after the other: fast, then fine, then on the noisiest timesteps alone,
            which are those that it is sampled at.
        pretraining: Sizes, rates and steps of all other stages.
    """

    work: Path = Path("runs/pretrain")
    out: Path = field(default_factory=lambda: shipped("segmenter").parent)
    adapter_scenes: int = 3_500
    adapter_examples: int = 4_000
    adapter: tuple[InpaintTrainConfig, ...] = (
        InpaintTrainConfig(epochs=3, batch_size=8, learning_rate=2e-3, noisiest_share=0.5),
        InpaintTrainConfig(epochs=2, batch_size=8, learning_rate=4e-4, noisiest_share=0.5),
        InpaintTrainConfig(
            epochs=4, batch_size=8, learning_rate=8e-4, noisiest_share=1.0, noisiest_range=0.01
        ),
    )
    pretraining: PretrainConfig = field(default_factory=PretrainConfig)


class _Bars:
    """One progress bar a stage, with the running mean of its loss."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None
        self._loss = 0.0

    def __call__(self, stage: str, step: int, num_steps: int, loss: float) -> None:
        if step == 0 or self._bar is None:
            self._bar, self._loss = tqdm(total=num_steps, desc=stage, mininterval=5), loss
        self._loss += 0.02 * (loss - self._loss)
        self._bar.update()
        if step % 50 == 0:
            self._bar.set_postfix(loss=f"{self._loss:.4f}")
        if step == num_steps - 1:
            self._bar.close()


def _finetune_adapter(config: PretrainTinyConfig) -> None:
    """Runs the jobs that any adapter is made by, on scenes of the pretraining seed."""
    scenes, prepared = config.work / "adapter-scenes", config.work / "adapter-prepared"
    if not scenes.is_dir():
        write_scene_shards(
            scenes,
            seed=PRETRAINING_SEED,
            num_scenes=config.adapter_scenes,
            config=config.pretraining.scenes,
        )
    if not prepared.is_dir():
        prepare(PrepareConfig(images=f"{scenes}/PIPE", masks=f"{scenes}/PIPE_Masks", out=str(prepared)))
    recipe = INPAINTER_RECIPES["tiny"]
    outs = [config.work / f"adapter-{number}" for number in range(len(config.adapter))]
    outs[-1] = config.work / "adapter"
    init = recipe.init
    for out, training in zip(outs, config.adapter, strict=True):
        if not out.is_dir():
            finetune_inpainter(
                replace(
                    recipe,
                    data=str(prepared),
                    out=out,
                    base=str(config.work / "inpainter"),
                    init=init,
                    limit=config.adapter_examples,
                    training=training,
                )
            )
        init = str(out)


def main(config: PretrainTinyConfig) -> None:
    """Train the tiny preset from nothing on procedural scenes. Takes hours on two cores."""
    torch.set_num_threads(config.pretraining.num_threads)
    config.work.mkdir(parents=True, exist_ok=True)
    bars = _Bars()
    data: SceneArrays | None = None
    for name, stage in (("segmenter", pretrain_segmenter), ("inpainter", pretrain_inpainter)):
        if (config.work / name).is_dir():
            print(f"{config.work / name} is there; not trained again", flush=True)
            continue
        data = data or make_scene_arrays(
            config.pretraining.num_rows, PRETRAINING_SEED, config.pretraining.scenes, bars
        )
        stage(data, config.work, config.pretraining, bars)
    if not (config.work / "adapter").is_dir():
        _finetune_adapter(config)
    pack(config.work, config.out, config.pretraining, bars)
    print(f"wrote {config.out}; next: python -m jobs.evaluate --help")


def parse(argv: Sequence[str] | None) -> PretrainTinyConfig:
    """Reads the flags, with their prefixes: four trainings have a learning rate each."""
    return tyro.cli(PretrainTinyConfig, args=argv, description=main.__doc__)


if __name__ == "__main__":
    run(main, parse=parse)
