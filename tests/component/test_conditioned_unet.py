"""ConditionedUNet: shapes, the paper's sizes, saving and loading, batches, learning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18
from transformers import CLIPTextConfig

from textremove.errors import WeightsError
from textremove.pretraining import vocabulary
from textremove.segment.conditioned_unet import ConditionedUNet, ConditionedUNetConfig, ResNetEncoder
from textremove.segment.masks import segmentation_from_probability
from textremove.segment.predictors import ConditionedUNetSegmenter
from textremove.segment.tiny import build_tiny_segmenter
from textremove.segment.training import SegmenterTrainConfig, build_optimizer, pretrain, segmentation_loss


@pytest.fixture(scope="module")
def model() -> ConditionedUNet:
    return build_tiny_segmenter(vocabulary(), seed=0).eval()


def test_logits_have_the_picture_s_size(model: ConditionedUNet) -> None:
    tokens = model.tokenize(["ball at the left", "people at the top right"])
    assert tokens[0].shape == tokens[1].shape == (2, 16)
    assert model(torch.zeros(2, 3, 128, 128), *tokens).shape == (2, 1, 128, 128)


def test_at_the_paper_s_widths_torchvision_weights_fit_as_they_are() -> None:
    encoder = ResNetEncoder(ConditionedUNetConfig().stage_widths)
    theirs = resnet18(weights=None)
    fit = encoder.load_state_dict(theirs.state_dict(), strict=False)
    assert fit.missing_keys == []
    assert fit.unexpected_keys == ["fc.weight", "fc.bias"]
    image = torch.rand(1, 3, 64, 64)
    encoder.eval(), theirs.eval()
    mine = encoder.layer1(encoder.maxpool(encoder.stem(image)))
    reference = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image)))))
    assert torch.equal(mine, reference)


def test_the_prompt_matters_and_padding_does_not(model: ConditionedUNet) -> None:
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        one = model(image, *model.tokenize(["ball at the left"]))
        other = model(image, *model.tokenize(["tree at the right"]))
        ids, mask = model.tokenize(["ball at the left"])
        ids[mask == 0] = 7  # whatever stands behind the end of the prompt
        padded = model(image, ids, mask)
    assert not torch.allclose(one, other, atol=1e-4)
    assert torch.allclose(one, padded, atol=1e-5)


def test_words_the_tokenizer_never_saw_are_spelt_out(model: ConditionedUNet) -> None:
    known, unknown = (int(model.tokenize([text])[1].sum()) for text in ("ball", "giraffe"))
    assert known == 3
    assert unknown > 3


def test_saved_and_loaded_it_is_the_same_model(model: ConditionedUNet, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m", metadata={"threshold": 0.3, "strategy": "raw"})
    again = ConditionedUNet.from_pretrained(tmp_path / "m")
    image, tokens = torch.rand(1, 3, 128, 128), model.tokenize(["heart at the bottom"])
    with torch.no_grad():
        assert torch.equal(model(image, *tokens), again(image, *tokens))
    segmenter = ConditionedUNetSegmenter.from_pretrained(tmp_path / "m")
    assert (segmenter.threshold, segmenter.strategy) == (0.3, "raw")


def test_half_precision_weights_load_in_single(model: ConditionedUNet, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "half", metadata={}, dtype=torch.float16)
    model.save_pretrained(tmp_path / "single", metadata={})
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "single")]
    assert sizes[0] < 0.55 * sizes[1]
    again = ConditionedUNet.from_pretrained(tmp_path / "half")
    assert {p.dtype for p in again.parameters()} == {torch.float32}


def test_a_damaged_or_foreign_folder_is_one_clear_line(model: ConditionedUNet, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no model folder"):
        ConditionedUNet.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="not a model saved by textremove"):
        ConditionedUNet.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "m", metadata={})
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="was changed since it was saved"):
        ConditionedUNet.from_pretrained(tmp_path / "m")
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text()) | {"kind": "toaster", "sha256": {}}
    (tmp_path / "m" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="holds a toaster"):
        ConditionedUNet.from_pretrained(tmp_path / "m")


def test_a_mask_does_not_depend_on_the_batch(model: ConditionedUNet) -> None:
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, size, np.uint8) for size in ((128, 128, 3), (90, 200, 3), (300, 31, 3))]
    segmenter = ConditionedUNetSegmenter(model)
    together = segmenter.probabilities(photos, ["ball", "tree", "car"])
    assert [p.shape for p in together] == [photo.shape[:2] for photo in photos]
    assert np.array_equal(together[1], segmenter.probabilities(photos[1:2], ["tree"])[0])


def test_what_is_found_and_what_is_not() -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[10:30, 10:20] = 0.9
    probability[25:40, 15:40] = 0.9
    box = segmentation_from_probability(probability, threshold=0.4, strategy="box")
    raw = segmentation_from_probability(probability, threshold=0.4, strategy="raw")
    assert box.found
    assert raw.found
    assert np.count_nonzero(box.mask) == 30 * 30
    assert np.count_nonzero(raw.mask) == np.count_nonzero(probability)
    assert box.score == pytest.approx(0.9)
    for nothing in (
        probability * 0.5,
        np.where(np.indices((100, 100)).sum(0) == 0, 0.9, 0).astype(np.float32),
    ):
        answer = segmentation_from_probability(nothing, threshold=0.4, strategy="box")
        assert not answer.found
        assert not answer.mask.any()


def test_the_loss_is_the_paper_s() -> None:
    config = SegmenterTrainConfig()
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    right, wrong = (mask * 2 - 1) * 20, (1 - mask * 2) * 20
    assert segmentation_loss(right, mask, config).max() < 1e-3
    # Everything wrong: BCE is 20, Dice loss 1 - 1 / (32 + 32 + 1).
    assert segmentation_loss(wrong, mask, config).tolist() == pytest.approx(
        [0.3 * 20 + 0.7 * (1 - 1 / 65)] * 2, rel=1e-4
    )


def test_seeing_what_is_not_there_costs_more_the_surer_and_pulls_on_every_pixel() -> None:
    config, empty = SegmenterTrainConfig(), torch.zeros(1, 1, 64, 64)
    assert segmentation_loss(empty - 20, empty, config).item() < 1e-3
    costs = []
    for logit in (0.0, 3.0, 6.0):
        seen = torch.full((1, 1, 64, 64), -20.0)
        seen[..., 20:30, 20:30] = logit
        seen.requires_grad_()
        loss = segmentation_loss(seen, empty, config).sum()
        (slope,) = torch.autograd.grad(loss, seen)
        # As hard as an object of that size that is there is pulled up, or the empty masks teach nothing.
        assert slope.sum() > 0.3
        costs.append(loss.item())
    assert costs == sorted(costs)
    assert costs[-1] > 3


def test_the_text_encoder_has_a_rate_of_its_own_or_is_frozen() -> None:
    model = build_tiny_segmenter(vocabulary(), seed=0)
    groups = build_optimizer(model, SegmenterTrainConfig()).param_groups
    assert [group["lr"] for group in groups] == [1e-4, 1e-5]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    frozen = build_optimizer(model, SegmenterTrainConfig(text_learning_rate=0)).param_groups
    assert len(frozen) == 1
    assert not any(p.requires_grad for p in model.text_encoder.parameters())


def test_it_learns_to_tell_two_sides_by_words() -> None:
    """A dot on each side; the prompt says which. Nothing but the words can decide."""
    pictures = np.zeros((1, 128, 128, 3), np.uint8)
    pictures[:, 44:84, 12:52] = pictures[:, 44:84, 76:116] = 255
    masks = np.zeros((2, 128, 128), np.uint8)
    masks[0, 44:84, 12:52] = masks[1, 44:84, 76:116] = 255
    model = build_tiny_segmenter(vocabulary(), seed=1)
    pretrain(
        model,
        np.repeat(pictures, 2, axis=0),
        masks,
        ["ball at the left", "ball at the right"],
        flip_prompt=lambda prompt: prompt,
        config=SegmenterTrainConfig(batch_size=4, learning_rate=3e-3, text_learning_rate=3e-3, flip=False),
        num_steps=60,
        progress=lambda *_: None,
    )
    segmenter = ConditionedUNetSegmenter(model, strategy="raw")
    left, right = segmenter.probabilities([pictures[0]] * 2, ["ball at the left", "ball at the right"])
    assert left[64, 32] > 2 * left[64, 96]
    assert right[64, 96] > 2 * right[64, 32]


def test_absent_counterparts_are_of_examples_in_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[tuple[np.ndarray, np.ndarray, list[str]]] = []

    class Recorder:
        def __init__(
            self, model: object, config: object, optimizer: torch.optim.Optimizer, **_: object
        ) -> None:
            self.optimizer = optimizer

        def __call__(self, pictures: np.ndarray, masks: np.ndarray, prompts: list[str]) -> torch.Tensor:
            batches.append((pictures[:, 0, 0, 0], masks.any(axis=(1, 2)), prompts))
            self.optimizer.step()  # or the schedule of its rates complains
            return torch.zeros(())

    monkeypatch.setattr("textremove.segment.training.TrainingStep", Recorder)
    numbers = np.arange(20, dtype=np.uint8)
    draws = set()

    def counterpart(k: int, draw: str) -> tuple[np.ndarray, np.ndarray, str]:
        draws.add(draw)
        return np.full((8, 8, 3), 100 + k, np.uint8), np.zeros((8, 8), np.uint8), f"not {k}"

    pretrain(
        build_tiny_segmenter(vocabulary(), seed=1),
        np.broadcast_to(numbers[:, None, None, None], (20, 8, 8, 3)),
        np.full((20, 8, 8), 255, np.uint8),
        [f"thing {k}" for k in numbers],
        flip_prompt=lambda prompt: prompt,
        counterpart=counterpart,
        config=SegmenterTrainConfig(batch_size=8, absent_share=0.25, flip=False),
        num_steps=3,
        progress=lambda *_: None,
    )
    for pictures, is_there, prompts in batches:
        assert is_there.tolist() == [True] * 6 + [False] * 2
        assert prompts[:6] == [f"thing {k}" for k in pictures[:6]]
        assert prompts[6:] == [f"not {k}" for k in pictures[:2]]
        assert (pictures[6:] == 100 + pictures[:2]).all()
    assert len(draws) == 6  # another draw each time


def test_clip_s_own_size_is_the_default_text_config() -> None:
    config = CLIPTextConfig()
    assert (config.hidden_size, config.max_position_embeddings) == (512, 77)
    assert ConditionedUNetConfig().text_config == {}
