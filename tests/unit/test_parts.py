"""Far-apart parts of a mask are filled in squares of their own; near ones, and ragged masks, in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from textremove.inpaint.crop import FillConfig
from textremove.inpaint.parts import MAX_PARTS, far_parts
from textremove.removal import fill_holes


def mask_of(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    return mask


@pytest.mark.parametrize(
    ("boxes", "count"),
    [
        ([(100, 100, 400, 400)], 1),
        ([(100, 100, 200, 200), (1600, 900, 1700, 1000)], 2),  # far apart
        ([(100, 100, 200, 200), (220, 100, 320, 200)], 1),  # in each other's surroundings
        ([(100, 100, 120, 120), (140, 100, 160, 120)], 1),  # one square of the model's size holds both
        ([(100, 100, 700, 700), (1500, 300, 1520, 320)], 2),  # a small one far from a large one
        ([(100, 100, 160, 160), (950, 100, 1010, 160), (1000, 180, 1060, 240)], 2),
        ([(0, 0, 1990, 990)], 1),
    ],
)
def test_parts_are_told_apart_by_what_each_gains(boxes: list[tuple[int, int, int, int]], count: int) -> None:
    mask = mask_of((1000, 2000), *boxes)
    parts = far_parts(mask, resolution=128, context=2.0)
    assert len(parts) == count
    assert np.array_equal(np.bitwise_or.reduce(parts), mask)
    assert sum(int((part > 0).sum()) for part in parts) == int((mask > 0).sum())
    if count == 1:
        assert parts[0] is mask


def test_many_parts_share_squares_and_a_texture_is_one() -> None:
    places = [(x, y) for x in range(50, 3000, 600) for y in range(50, 3000, 600)]
    crowd = mask_of((3000, 3000), *[(x, y, x + 40, y + 40) for x, y in places])
    assert len(far_parts(crowd, resolution=128, context=2.0)) <= MAX_PARTS
    eight = mask_of((3000, 3000), *[(x, y, x + 40, y + 40) for x, y in places[::3][:8]])
    assert len(far_parts(eight, resolution=128, context=2.0)) == MAX_PARTS
    noise = (np.random.default_rng(0).random((1000, 1000)) > 0.995).astype(np.uint8) * 255
    assert len(far_parts(noise, resolution=128, context=2.0)) == 1


class Recorder:
    """An inpainter that paints white and keeps the masks it was given."""

    resolution = 64
    multiple = 1
    textured = True

    def __init__(self) -> None:
        self.masks: list[np.ndarray] = []

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        self.masks += masks
        return [np.full_like(image, 255) for image in images]


PLAIN = FillConfig(match_colours=False, dilation=0, feather=0)


def test_each_square_hides_the_other_holes_and_all_are_filled() -> None:
    image = np.random.default_rng(0).integers(0, 200, (100, 400, 3), np.uint8)
    mask = mask_of((100, 400), (30, 40, 60, 70), (80, 50, 86, 56), (300, 30, 340, 70))
    recorder = Recorder()
    result = fill_holes(recorder, [image], [mask], [0], PLAIN)[0]
    assert np.all(result[mask > 0] == 255)
    assert np.array_equal(result[mask == 0], image[mask == 0])
    assert len(recorder.masks) == 3
    # Of 64x64 pixels around the small hole: itself, and what of the large one reaches into it.
    assert sorted(int((hidden > 0).sum()) for hidden in recorder.masks)[0] == 6 * 6 + 9 * 30


def test_what_is_repeated_of_an_object_at_the_photo_s_edge_is_hidden_too() -> None:
    mask = mask_of((100, 40), (0, 40, 20, 60))  # the square hangs over at the left and the right
    recorder = Recorder()
    fill_holes(recorder, [np.zeros((100, 40, 3), np.uint8)], [mask], [0], PLAIN)
    assert recorder.masks[0].shape == (64, 64)
    hidden = np.flatnonzero(recorder.masks[0].any(axis=0))
    assert (hidden[0], hidden[-1]) == (0, 31)


def test_a_box_is_drawn_around_each_far_part_and_not_around_all() -> None:
    image = np.random.default_rng(0).integers(0, 200, (100, 400, 3), np.uint8)
    mask = mask_of((100, 400), (20, 40, 30, 90), (25, 80, 60, 90), (300, 20, 310, 80))
    filled = fill_holes(Recorder(), [image], [mask], [0], replace(PLAIN, shape="box"))[0]
    assert np.all(filled[40:90, 20:60] == 255)
    assert np.array_equal(filled[:, 60:300], image[:, 60:300])
