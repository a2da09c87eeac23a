"""Dice, IoU, boxes, and the location prior."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from textremove.errors import DatasetError
from textremove.segment.location_prior import LocationPriorSegmenter, place_phrase
from textremove.segment.masks import bounding_box, box_mask, pixel_mask
from textremove.segment.metrics import dice, iou


def _mask(box: tuple[int, int, int, int], shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 255
    return mask


def test_dice_and_iou_of_half_an_overlap() -> None:
    a, b = _mask((0, 0, 10, 10)), _mask((5, 0, 15, 10))
    assert dice(a, b) == pytest.approx(0.5)
    assert iou(a, b) == pytest.approx(1 / 3)


def test_equal_disjoint_and_empty() -> None:
    a, empty = _mask((0, 0, 4, 4)), np.zeros((20, 30), np.uint8)
    assert dice(a, a) == iou(a, a) == dice(empty, empty) == iou(empty, empty) == 1.0
    assert dice(a, empty) == iou(a, empty) == dice(a, _mask((10, 10, 12, 12))) == 0.0


def test_the_box_of_a_mask() -> None:
    mask = _mask((3, 4, 5, 6)) | _mask((10, 2, 12, 3))
    assert bounding_box(mask) == (3, 2, 12, 6)
    assert np.array_equal(box_mask(mask), _mask((3, 2, 12, 6)))
    assert bounding_box(np.zeros((5, 5), np.uint8)) is None
    assert not box_mask(np.zeros((5, 5), np.uint8)).any()


def test_specks_are_dropped_and_parts_of_like_size_stay() -> None:
    probability = np.zeros((20, 30), np.float32)
    probability[2:8, 2:8] = 0.9
    probability[2:6, 12:16] = 0.8  # 16 of 36 pixels: another object
    probability[18, 28] = 0.99  # one pixel
    mask = pixel_mask(probability, 0.5)
    assert bounding_box(mask) == (2, 2, 16, 8)
    assert set(np.unique(mask)) == {0, 255}
    assert not pixel_mask(probability, 0.995).any()
    assert pixel_mask(np.ones((4, 4), np.float32), 0.5).all()


def test_the_prior_answers_with_the_mean_box_of_the_phrase(tmp_path: Path) -> None:
    examples = [
        ("ball at the left", _mask((0, 0, 6, 10))),
        ("tree at the left", _mask((0, 10, 12, 20))),
        ("car at the right", _mask((24, 0, 30, 20))),
    ]
    prior = LocationPriorSegmenter.fit(examples)
    prior.save_pretrained(tmp_path / "prior")
    prior = LocationPriorSegmenter.from_pretrained(tmp_path / "prior")
    photo = np.zeros((40, 60, 3), np.uint8)
    answer = prior.segment([photo], ["house at the left"])[0]
    assert bounding_box(answer.mask) == (0, 10, 18, 30)
    assert answer.found
    anywhere = prior.segment([photo], ["house at the moon"])[0]
    assert bounding_box(anywhere.mask) == bounding_box(prior.segment([photo], ["house"])[0].mask)


def test_the_prior_needs_examples() -> None:
    with pytest.raises(DatasetError, match="needs training examples"):
        LocationPriorSegmenter.fit([])


def test_place_phrases() -> None:
    assert place_phrase("ball at the top left") == "top left"
    assert place_phrase("person at the bar at the right") == "right"
    assert place_phrase("ball") == ""
