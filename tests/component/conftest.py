"""Small real models with random weights, made once for the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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
