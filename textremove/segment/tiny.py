"""The tiny ConditionedUNet: the paper's classes at embedded size, for 128 px."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from textremove.segment.conditioned_unet import ConditionedUNet, ConditionedUNetConfig
from textremove.text import build_text_encoder, build_tokenizer

PROMPT_LENGTH = 16
TEXT_WIDTH = 64
TEXT_LAYERS = 2

_TEXT_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def build_tiny_segmenter(words: Iterable[str], *, seed: int) -> ConditionedUNet:
    """Builds a tiny ConditionedUNet with random weights.

    Args:
        words: What its tokenizer holds as whole words.
        seed: Seed of the weights.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(words, max_length=PROMPT_LENGTH)
    text = build_text_encoder(tokenizer, width=TEXT_WIDTH, num_layers=TEXT_LAYERS).config
    config = ConditionedUNetConfig(
        image_size=128,
        stage_widths=(24, 48, 96, 160),
        decoder_widths=(96, 48, 32, 24),
        num_heads=4,
        text_config={name: getattr(text, name) for name in _TEXT_SIZES},
    )
    return ConditionedUNet(config, tokenizer)
