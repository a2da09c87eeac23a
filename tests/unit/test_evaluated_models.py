from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from textremove.errors import ConfigError
from textremove.onray.evaluated_models import named_segmenters
from textremove.onray.scorer import mask_scores
from textremove.segment.protocol import Segmentation


def folder(path: Path) -> str:
    path.mkdir(parents=True)
    return str(path)


def test_presets_hub_ids_and_pairs_are_called_by_their_last_part() -> None:
    sources = (
        "tiny",
        "CIDAS/clipseg-rd64-refined",
        "IDEA-Research/grounding-dino-tiny+facebook/sam2-hiera-tiny",
    )
    named = named_segmenters(sources)
    assert list(named) == ["tiny", "clipseg-rd64-refined", "grounding-dino-tiny+sam2-hiera-tiny"]
    assert tuple(named.values()) == sources


def test_folders_of_the_same_name_get_as_much_of_their_path_as_tells_them_apart(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "a" / "segmenter"), folder(tmp_path / "b" / "segmenter")
    assert named_segmenters([first, second]) == {"a/segmenter": first, "b/segmenter": second}
    assert list(named_segmenters([first, "tiny"])) == ["segmenter", "tiny"]


def test_a_folder_of_the_priors_name_does_not_take_its_place(tmp_path: Path) -> None:
    saved = folder(tmp_path / "runs" / "location-prior")
    assert named_segmenters([saved]) == {"runs/location-prior": saved}


def test_a_folder_may_be_named_by_a_path_that_starts_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = folder(tmp_path / "модель+1")
    folder(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert named_segmenters(["./модель+1", "tiny"]) == {"модель+1": saved, "tiny": "tiny"}


def test_the_same_one_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tiny twice"):
        named_segmenters(["tiny", "tiny"])


def test_masks_are_scored_three_ways() -> None:
    true = np.zeros((10, 10), np.uint8)
    true[2:6, 2:6] = 255
    true[2, 2] = 0  # 15 of the 16 pixels of its box
    perfect = Segmentation(mask=true, raw=true, score=0.9, found=True)
    scores = mask_scores(perfect, true)
    assert scores["raw_dice"] == scores["raw_iou"] == scores["box_dice"] == scores["box_iou"] == 1.0
    assert scores["raw_box_dice"] == pytest.approx(2 * 15 / (15 + 16))
    assert scores["raw_box_iou"] == pytest.approx(15 / 16)
    nothing = np.zeros_like(true)
    scores = mask_scores(Segmentation(mask=nothing, raw=nothing, score=0.0, found=False), true)
    assert {value for name, value in scores.items() if name.endswith(("dice", "iou"))} == {0.0}
    assert scores["found"] is False
