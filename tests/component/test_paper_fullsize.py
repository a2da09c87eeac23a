"""The paper's segmenter at its full size: minutes and gigabytes, so only with `-m fullsize`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from textremove.checkpoint import read_manifest
from textremove.pretraining import vocabulary
from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.paper import RANDOM, build_paper_segmenter
from textremove.segment.preprocess import normalise
from textremove.segment.training import SegmenterTrainConfig, TrainingStep, build_optimizer
from textremove.text import build_tokenizer

pytestmark = [pytest.mark.fullsize, pytest.mark.slow]

PROMPTS = ["person at the left", "red ball at the bottom right"]

# Sizes of openai/clip-vit-base-patch32's text tower, from its published config.json.
CLIP_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole CLIP as on the hub, random, its text tower at full size and its vision tower a small one."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPModel(CLIPConfig(text_config=CLIP_TEXT, vision_config=vision)).save_pretrained(folder)
    build_tokenizer(vocabulary(), max_length=77).save_pretrained(folder)
    return folder


def test_two_steps_at_full_size_then_saved_and_loaded_it_predicts_the_same(
    clip_folder: Path, tmp_path: Path
) -> None:
    model = build_paper_segmenter(text_encoder=str(clip_folder), backbone=RANDOM, image_size=512, seed=0)
    assert sum(p.numel() for p in model.text_encoder.parameters()) == 63_165_952  # as published
    assert sum(p.numel() for p in model.encoder.parameters()) == 11_689_512 - 513_000  # less the classifier
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 512, 512, 3), dtype=np.uint8)
    masks = np.zeros((2, 512, 512), np.uint8)
    masks[:, 100:300, 50:250] = 255
    config = SegmenterTrainConfig(batch_size=2)
    step = TrainingStep(model.train(), config, build_optimizer(model, config), bfloat16=False)
    losses = [step(pictures, masks, PROMPTS).item() for _ in range(2)]
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]
    moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert any(name.startswith("text_encoder") for name in moved)
    assert any(name.startswith("encoder") for name in moved)

    model.eval().save_pretrained(tmp_path / "paper", metadata={"threshold": 0.4})
    again = ConditionedUNet.from_pretrained(tmp_path / "paper")
    assert read_manifest(tmp_path / "paper")["config"]["image_size"] == 512
    with torch.inference_mode():
        logits, logits_again = (m(normalise(pictures), *m.tokenize(PROMPTS)) for m in (model, again))
    assert logits.shape == (2, 1, 512, 512)
    assert torch.equal(logits, logits_again)
