"""Models for tests of the plumbing: of the real classes, without weights worth having."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, kw_only=True)
class PlainModels:
    """Folders that `load_segmenter` and `load_inpainter` take.

    Attributes:
        segmenter: Answers by the place words alone; finds nothing for "... at the nowhere".
        inpainter: A diffusion base with random weights: every seed fills in something else.
        adapter: A LoRA folder with random weights for it.
    """

    segmenter: str
    inpainter: str
    adapter: str


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PIPE and PIPE_Masks of 60 procedural scenes in a dozen shards or more, to be interrupted among."""
    from textremove.pipe.scene_rows import write_scene_shards
    from textremove.pipe.scenes import SceneConfig

    out = tmp_path_factory.mktemp("many")
    write_scene_shards(out, seed=8, num_scenes=60, rows_per_shard=8, config=SceneConfig(size=64))
    return out


@pytest.fixture(scope="session")
def plain_models(tmp_path_factory: pytest.TempPathFactory) -> PlainModels:
    import torch

    from textremove.inpaint.lora import LoraSpec, add_lora, save_lora
    from textremove.inpaint.tiny import PROMPT_LENGTH, TEXT_WIDTH, build_pipeline, build_unet, build_vae
    from textremove.segment.location_prior import LocationPriorSegmenter
    from textremove.text import build_text_encoder, build_tokenizer

    folder = tmp_path_factory.mktemp("models")
    LocationPriorSegmenter(
        {"": (0.25, 0.25, 0.75, 0.75), "left": (0.05, 0.3, 0.4, 0.8), "nowhere": (0.0, 0.0, 0.0, 0.0)}
    ).save_pretrained(folder / "segmenter")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["ball"], max_length=PROMPT_LENGTH)
    text_encoder = build_text_encoder(tokenizer, width=TEXT_WIDTH, num_layers=1)
    unet = build_unet()
    unet.register_to_config(sample_size=8)  # fills squares of 32 px, which is soon done
    build_pipeline(build_vae(), unet, text_encoder, tokenizer).save_pretrained(folder / "inpainter")
    with torch.no_grad():
        for parameter in add_lora(unet, LoraSpec()):
            parameter.normal_()
    save_lora(unet, folder / "adapter", spec=LoraSpec(), metadata={})
    return PlainModels(
        segmenter=str(folder / "segmenter"),
        inpainter=str(folder / "inpainter"),
        adapter=str(folder / "adapter"),
    )
