"""What training reads of a base: its VAE, and bases that cannot be trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from textremove.errors import WeightsError
from textremove.inpaint.diffusion import load_base
from textremove.inpaint.holes import HoleConfig, cut_square
from textremove.inpaint.latents import LatentEncoder, load_encoder
from textremove.inpaint.objective import InpaintObjective, InpaintTrainConfig


def changed(base: Path, to: Path, **config: object) -> Path:
    """A copy of a base whose UNet says something else of itself."""
    folder = shutil.copytree(base, to)
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def test_the_encoder_alone_is_the_pipelines(random_base: Path) -> None:
    pipeline = load_base(random_base)
    alone = load_encoder(random_base)
    assert alone.resolution == 128 == pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (100, 140, 3), np.uint8)
    mask = np.zeros((100, 140), np.uint8)
    mask[40:60, 50:80] = 255
    square = cut_square(image, mask, image, resolution=128, holes=HoleConfig(), rng=rng)
    latents = alone.encode([square] * 9)  # more than go through at a time
    assert latents.truth_BCHW.shape == latents.masked_BCHW.shape == (9, 4, 32, 32)
    assert latents.mask_B1HW.shape == (9, 1, 32, 32)
    assert set(latents.mask_B1HW.unique().tolist()) == {0.0, 1.0}
    same = LatentEncoder(pipeline.vae, resolution=128).encode([square])
    assert torch.allclose(latents.truth_BCHW[8], same.truth_BCHW[0], atol=1e-5)
    assert torch.allclose(latents.masked_BCHW[8], same.masked_BCHW[0], atol=1e-5)
    assert not torch.allclose(same.truth_BCHW, same.masked_BCHW, atol=1e-2)


def test_another_vae_has_another_digest(random_base: Path, tmp_path: Path) -> None:
    other = shutil.copytree(random_base, tmp_path / "other")
    file = other / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"quant_conv.bias": tensors["quant_conv.bias"] + 1e-3}, file)
    assert load_encoder(random_base).digest == load_encoder(random_base).digest != load_encoder(other).digest


def test_bases_that_cannot_be_trained_on_are_one_line(random_base: Path, tmp_path: Path) -> None:
    sdxl = changed(random_base, tmp_path / "xl", addition_embed_type="text_time")
    with pytest.raises(WeightsError, match="is an SDXL base"):
        load_encoder(sdxl)
    plain = changed(random_base, tmp_path / "plain", in_channels=4)
    with pytest.raises(WeightsError, match="no inpainting base: its UNet reads 4 channels"):
        load_encoder(plain)
    with pytest.raises(WeightsError, match="cannot be loaded") as missing:
        load_encoder(tmp_path / "nowhere")
    assert "\n" not in str(missing.value)
    pipeline = load_base(random_base)
    pipeline.unet.register_to_config(addition_embed_type="text_time")
    with pytest.raises(WeightsError, match="is an SDXL base"):
        InpaintObjective(pipeline, InpaintTrainConfig())
