"""Making the tiny preset: every stage at its smallest, and what is packed loads and removes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from textremove.checkpoint import read_manifest
from textremove.inpaint.base import load_base
from textremove.inpaint.diffusion import DiffusionInpainter
from textremove.inpaint.lora import LoraSpec, add_lora, save_lora
from textremove.inpaint.pretraining import UnetTrainConfig, VaeTrainConfig, build_latent_set, train_vae
from textremove.inpaint.tiny import build_vae
from textremove.pipe.scenes import SceneConfig
from textremove.pretraining import (
    CALIBRATION_SEED,
    PRETRAINING_SEED,
    PretrainConfig,
    SceneArrays,
    make_scene_arrays,
    pack,
    pretrain_inpainter,
    pretrain_segmenter,
)
from textremove.removal import Remover
from textremove.segment.predictors import ConditionedUNetSegmenter
from textremove.segment.training import SegmenterTrainConfig


def _quiet(stage: str, step: int, num_steps: int, loss: float) -> None:
    assert 0 <= step < num_steps
    assert stage == "scenes" or math.isfinite(loss)


@pytest.fixture(scope="module")
def smallest() -> PretrainConfig:
    short = VaeTrainConfig(num_steps=2, batch_size=2)
    return PretrainConfig(
        num_rows=8,
        num_latent_rows=8,
        segmenter_steps=2,
        segmenter=SegmenterTrainConfig(batch_size=2),
        vae=short,
        decoder=short,
        unet=UnetTrainConfig(num_steps=2, batch_size=4),
    )


@pytest.fixture(scope="module")
def data() -> SceneArrays:
    return make_scene_arrays(8, PRETRAINING_SEED, SceneConfig(), _quiet)


def test_training_and_calibration_share_no_scene() -> None:
    assert PRETRAINING_SEED != CALIBRATION_SEED


def test_all_stages_and_the_packed_preset(
    smallest: PretrainConfig, data: SceneArrays, tmp_path: Path
) -> None:
    pretrain_segmenter(data, tmp_path, smallest, _quiet)
    pretrain_inpainter(data, tmp_path, smallest, _quiet)
    unet = load_base(tmp_path / "inpainter").unet
    for parameter in add_lora(unet, LoraSpec()):
        torch.nn.init.normal_(parameter, std=0.1)
    save_lora(unet, tmp_path / "adapter", spec=LoraSpec(), metadata={})
    pack(tmp_path, tmp_path / "tiny", smallest, _quiet)

    packed = tmp_path / "tiny"
    metadata = read_manifest(packed / "segmenter")["metadata"]
    assert metadata["strategy"] in ("raw", "box")
    assert 0 < metadata["threshold"] < 1
    assert sum(path.stat().st_size for path in packed.rglob("*") if path.is_file()) < 16e6
    remover = Remover(
        ConditionedUNetSegmenter.from_pretrained(packed / "segmenter"),
        DiffusionInpainter.from_pretrained(packed / "inpainter", adapter=packed / "adapter", num_steps=2),
    )
    removal = remover.remove(data.pictures[0], data.prompts[0], mask=data.masks[0])
    assert removal.found
    assert not np.array_equal(removal.image, data.pictures[0])


def test_the_vae_learns_and_its_latents_have_unit_variance(data: SceneArrays) -> None:
    losses: list[float] = []
    torch.manual_seed(0)
    vae = build_vae()
    config = VaeTrainConfig(num_steps=25, batch_size=4, crop=32, kl_weight=0)
    train_vae(vae, data.pictures, config, lambda stage, step, n, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    latents = build_latent_set(vae, data.pictures, data.masks, data.classes, seed=0)
    assert latents.image_NCHW.shape == (8, 4, 32, 32)
    assert float(latents.image_NCHW.std()) == pytest.approx(1, abs=0.05)
    assert set(latents.mask_N1HW.unique().tolist()) == {0.0, 1.0}
    assert set(latents.captions) <= {"", *data.classes}
