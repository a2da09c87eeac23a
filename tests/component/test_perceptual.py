"""LPIPS and ReMOVE with random weights in the layouts that real ones come in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from transformers import Dinov2Config, Dinov2Model, SamConfig, SamModel, SamVisionConfig

from textremove.errors import ConfigError, WeightsError
from textremove.inpaint.perceptual import (
    ALEXNET,
    INCEPTION,
    NetworkWeights,
    PatchFeatures,
    PerceptualScorer,
    find_weights,
    remove_score,
)


@pytest.fixture(scope="module")
def torch_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("torch")
    (folder / "checkpoints").mkdir()
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), folder / ALEXNET)
    return str(folder)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vit") / "dino"
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=70, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    told = {
        "crop_size": {"height": 56, "width": 56},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return str(folder)


def scene() -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(80, 120, (90, 120, 3), np.uint8)
    mask = np.zeros((90, 120), np.uint8)
    mask[30:60, 40:70] = 255
    return image, mask


def test_lpips_is_nought_for_the_truth_and_grows_with_the_damage_where_it_is_asked(torch_cache: str) -> None:
    before = torch.hub.get_dir()
    scorer = PerceptualScorer(NetworkWeights(torch_cache=torch_cache))
    assert torch.hub.get_dir() == before
    truth, mask = scene()
    assert scorer.scores(truth, truth, mask) == {"lpips": 0.0, "band_lpips": 0.0}
    distances = []
    for strength in (10, 120):
        filled = truth.copy()
        filled[40:50, 50:60] += np.uint8(strength)
        scores = scorer.scores(filled, truth, mask)
        assert scores["band_lpips"] == 0.0
        distances.append(scores["lpips"])
    assert 0 < distances[0] < distances[1]
    outside = truth.copy()
    outside[26:29, 40:70] += np.uint8(120)  # in the band, not in the mask
    scores = scorer.scores(outside, truth, mask)
    assert scores["lpips"] == 0.0 < scores["band_lpips"]


def test_local_fid_s_looks_are_of_the_crop_and_grow_apart_with_the_damage(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(weights=None, init_weights=False)
    torch.save(network.state_dict(), tmp_path / INCEPTION)
    scorer = PerceptualScorer(NetworkWeights(inception=str(tmp_path / INCEPTION)))
    truth, mask = scene()
    damaged = truth.copy()
    damaged[mask > 0] = (255, 0, 0)
    far = truth.copy()
    far[:2, :2] = 0
    looks = scorer.looks([truth, truth, damaged, far], mask)
    assert looks.shape == (4, 2048)
    apart = np.linalg.norm(looks - looks[0], axis=1)
    assert apart[1] == apart[3] == 0 < apart[2]


def test_patch_features_lie_where_their_patches_are(dino: str) -> None:
    features = PatchFeatures.from_pretrained(dino)
    assert features.side == 56
    grey = np.full((56, 56, 3), 127, np.uint8)
    spot = grey.copy()
    spot[14:28, 42:56] = 255  # the patch in the second row and the last column
    change = (features(spot) - features(grey)).norm(dim=-1)
    assert change.shape == (4, 4)
    assert divmod(int(change.argmax()), 4) == (1, 3)


def test_a_hole_like_its_surroundings_scores_above_a_strange_one(dino: str) -> None:
    features = PatchFeatures.from_pretrained(dino)
    image, mask = scene()
    strange = image.copy()
    strange[mask > 0] = (255, 0, 0)
    assert -1 <= remove_score(features, strange, mask) < remove_score(features, image, mask) <= 1 + 1e-6
    assert PerceptualScorer(NetworkWeights(vit=dino)).scores(image, image, mask) == {
        "remove": pytest.approx(remove_score(features, image, mask))
    }


def test_sams_encoder_serves_as_the_vit(tmp_path: Path) -> None:
    vision = SamVisionConfig(
        hidden_size=16, output_channels=8, num_hidden_layers=1, num_attention_heads=2, image_size=64,
        patch_size=16, global_attn_indexes=[0], mlp_dim=16,
    )  # fmt: skip
    SamModel(SamConfig(vision_config=vision)).save_pretrained(tmp_path / "sam")
    (tmp_path / "sam" / "preprocessor_config.json").write_text("{}")
    features = PatchFeatures.from_pretrained(str(tmp_path / "sam"))
    assert features(np.zeros((64, 64, 3), np.uint8)).shape == (4, 4, 8)
    image, mask = scene()
    assert -1 <= remove_score(features, image, mask) <= 1


def test_what_is_not_there_is_absent_with_a_reason_and_what_was_named_is_missed(
    torch_cache: str, dino: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    nothing = find_weights()
    assert (nothing.torch_cache, nothing.vit) == ("", "")
    assert "torch's cache" in nothing.absent["lpips"]
    assert "facebook/dinov2-small" in nothing.absent["remove"]
    assert "inception" in nothing.absent["local_fid"]
    scorer = PerceptualScorer(nothing)
    image, mask = scene()
    assert scorer.scores(image, image, mask) == {}
    assert not scorer.looks([image], mask).size

    both = find_weights(torch_cache, dino)
    assert both == NetworkWeights(torch_cache=torch_cache, vit=dino, absent=both.absent)
    assert list(both.absent) == ["local_fid"]
    with pytest.raises(ConfigError, match="which LPIPS needs"):
        find_weights(str(tmp_path), None)
    with pytest.raises(ConfigError, match="not in the hub's cache"):
        find_weights(None, "somebody/vit")


def test_weights_that_are_no_weights_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ALEXNET).write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="alexnet"):
        PerceptualScorer(NetworkWeights(torch_cache=str(tmp_path)))
    (tmp_path / INCEPTION).write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="inception"):
        PerceptualScorer(NetworkWeights(inception=str(tmp_path / INCEPTION)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot be loaded as a ViT"):
        PerceptualScorer(NetworkWeights(vit=str(tmp_path)))
