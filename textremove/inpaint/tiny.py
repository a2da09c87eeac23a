"""The tiny base inpainter: Stable Diffusion 2 inpainting's own classes at embedded size.

A 9-channel UNet (4 noisy latent channels, 1 mask, 4 masked-image latent channels) over a VAE that
halves the picture twice, at 128 px. It differs from SD2-inpainting in sizes, and in one choice: it
predicts v with a terminal SNR of zero (as SD2's 768 px models predict v), because at the first of few
steps that is a plain estimate of the filling, which a small model learns far sooner than noise.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

Pipeline = StableDiffusionInpaintPipeline
"""What the tiny inpainter is, for those outside this room."""

RESOLUTION = 128
TEXT_WIDTH = 64
PROMPT_LENGTH = 16


def build_vae() -> AutoencoderKL:
    """A VAE with random weights: (3, H, W) to 4 latent channels at H/4, W/4."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=RESOLUTION,
        scaling_factor=1.0,
    )


def build_unet() -> UNet2DConditionModel:
    """A 9-channel UNet with random weights, attention (self and to text) at its two lower levels."""
    return UNet2DConditionModel(
        sample_size=RESOLUTION // 4,
        in_channels=9,
        out_channels=4,
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
    )


def build_scheduler() -> DDIMScheduler:
    """DDIM as the tiny base is trained with and sampled by."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # no effect with trailing steps; diffusers warns of any other value
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def build_pipeline(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionInpaintPipeline:
    """Puts the parts together as the pipeline that diffusers saves and loads."""
    return StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_pipeline(folder: Path, *, dtype: torch.dtype) -> StableDiffusionInpaintPipeline:
    """Loads a saved tiny pipeline, its weights as `dtype`."""
    return StableDiffusionInpaintPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False, dtype=dtype
    )
