"""Small real models with random weights, made once for the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from textremove.inpaint import tiny
from textremove.pretraining import vocabulary
from textremove.text import build_text_encoder, build_tokenizer


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny inpainting base in the hub's layout, with random weights."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(vocabulary(), max_length=tiny.PROMPT_LENGTH)
    text_encoder = build_text_encoder(tokenizer, width=tiny.TEXT_WIDTH, num_layers=2)
    pipeline = tiny.build_pipeline(tiny.build_vae(), tiny.build_unet(), text_encoder, tokenizer)
    folder = tmp_path_factory.mktemp("base") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_sdxl_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for SDXL: two text encoders, pooled embeddings and time ids; squares of 64 px."""
    torch.manual_seed(0)
    tokenizers = [build_tokenizer(["ball", "red"], max_length=8) for _ in range(2)]
    encoders = [
        build_text_encoder(tokenizers[0], width=32, num_layers=2),
        CLIPTextModelWithProjection(build_text_encoder(tokenizers[1], width=32, num_layers=2).config),
    ]
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )
    pipeline = StableDiffusionXLInpaintPipeline(
        vae=tiny.build_vae(),
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    folder = tmp_path_factory.mktemp("base") / "sdxl"
    pipeline.save_pretrained(folder)
    return folder
