"""The full-size segmenter's loading, on small files in the same formats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from textremove.errors import WeightsError
from textremove.pretraining import vocabulary
from textremove.segment.paper import build_paper_segmenter
from textremove.text import build_text_encoder, build_tokenizer


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP text encoder with random weights, in the hub's layout."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = build_tokenizer(vocabulary(), max_length=16)
    build_text_encoder(tokenizer, width=32, num_layers=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_backbone_and_text_encoder_are_the_given_ones(clip_folder: Path, tmp_path: Path) -> None:
    resnet = resnet18(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    save_file(resnet.state_dict(), tmp_path / "resnet.safetensors")
    for file in ("resnet.pth", "resnet.safetensors"):
        model = build_paper_segmenter(
            text_encoder=str(clip_folder), backbone=str(tmp_path / file), image_size=64, seed=0
        )
        assert torch.equal(model.encoder.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)
    assert model.config.stage_widths == (64, 128, 256, 512)
    assert model.config.decoder_widths == (256, 128, 64, 32)
    assert model.config.text_config["hidden_size"] == 32
    logits_B1HW = model.eval()(torch.zeros(1, 3, 64, 64), *model.tokenize(["ball at the left"]))
    assert logits_B1HW.shape == (1, 1, 64, 64)


def test_what_cannot_be_loaded_is_one_line_that_says_what_to_give(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.pth").write_bytes(b"junk")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    cases = {
        "--text-encoder": {"text_encoder": str(tmp_path), "backbone": "random"},
        "cannot be read": {"text_encoder": str(clip_folder), "backbone": str(tmp_path / "junk.pth")},
        "holds no ResNet-18": {
            "text_encoder": str(clip_folder),
            "backbone": str(tmp_path / "other.safetensors"),
        },
    }
    for words, arguments in cases.items():
        with pytest.raises(WeightsError, match=words) as mistake:
            build_paper_segmenter(**arguments, seed=0)  # type: ignore[arg-type]
        assert "\n" not in str(mistake.value)
