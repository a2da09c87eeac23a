"""Stable Diffusion 2 inpainting with random weights: the published classes, sizes and folder layout."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from textremove.pretraining import vocabulary
from textremove.text import build_tokenizer

SIDE = 512
"""Resolution in pixels."""
# Parameters of the published weights; the UNet has 5 input channels more than text to image, 320 by 3 by 3.
NUM_UNET, NUM_VAE, NUM_TEXT = 865_910_724 + 5 * 320 * 9, 83_653_863, 340_387_840


def save_sd2(folder: Path, *, device: str = "cpu") -> None:
    """Saves the base in the hub's layout, 5.2 GB; only one part is in memory at a time.

    Args:
        folder: Where to.
        device: Where weights are drawn: seconds on a GPU, minutes on a CPU.
    """
    tokenizer = build_tokenizer(vocabulary(), max_length=77)
    tokenizer.save_pretrained(folder / "tokenizer")
    _scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
    }
    for name, (build, num_parameters) in _PARTS.items():
        torch.manual_seed(0)
        with torch.device(device):
            model = build()
        count = sum(parameter.numel() for parameter in model.parameters())
        if count != num_parameters:
            raise RuntimeError(f"the {name} has {count:,} parameters, the published one {num_parameters:,}")
        model.save_pretrained(folder / name)
        index[name] = ["transformers" if name == "text_encoder" else "diffusers", type(model).__name__]
        del model
        gc.collect()
    (folder / "model_index.json").write_text(json.dumps(index))  # last: it makes the folder a base


def _scheduler() -> DDIMScheduler:
    # Unlike SD2's own 768 px model, the one for inpainting predicts epsilon.
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def _unet() -> UNet2DConditionModel:
    # v2-inpainting-inference.yaml of Stability-AI/stablediffusion: heads of 64 channels.
    return UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=9,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=SIDE,
    )


def _text_encoder() -> CLIPTextModel:
    # The text tower of OpenCLIP ViT-H/14 up to its last layer but one, which is what SD2 reads.
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=23,
        num_attention_heads=16,
        hidden_act="gelu",
        projection_dim=512,
    )
    return CLIPTextModel(config)


_PARTS: Mapping[str, tuple[Callable[[], Any], int]] = {
    "unet": (_unet, NUM_UNET),
    "vae": (_vae, NUM_VAE),
    "text_encoder": (_text_encoder, NUM_TEXT),
}
