from __future__ import annotations

import numpy as np
import pytest

from textremove.inpaint.crop import FillConfig, cut_image, cut_mask, open_hole
from textremove.inpaint.holes import HoleConfig, Square, cut_square
from textremove.inpaint.masks import boxed

SIDE = 64
rng = np.random.default_rng(0)
IMAGE, TRUTH = rng.integers(0, 255, (2, 150, 200, 3), np.uint8)
MASK = np.zeros((150, 200), np.uint8)
MASK[60:80, 90:100] = MASK[75:80, 90:130] = 255  # an L, far from filling its box


def square(holes: HoleConfig, seed: int = 0) -> Square:
    drawn = np.random.default_rng(seed)
    return cut_square(IMAGE, MASK, TRUTH, resolution=SIDE, holes=holes, rng=drawn)


def test_the_default_hole_is_that_of_use() -> None:
    hole = open_hole(MASK, resolution=SIDE, config=FillConfig())
    cut = square(HoleConfig())
    assert np.array_equal(cut.mask, cut_mask(hole.mask, hole.window, SIDE))
    assert np.array_equal(cut.picture, cut_image(IMAGE, hole.window, SIDE))
    assert np.array_equal(cut.truth, cut_image(TRUTH, hole.window, SIDE))
    assert np.count_nonzero(hole.mask) > np.count_nonzero(MASK)  # grown
    assert not HoleConfig().is_drawn


def test_a_box_mask_is_the_box_grown_as_in_use() -> None:
    hole = open_hole(boxed(MASK), resolution=SIDE, config=FillConfig())
    cut = square(HoleConfig(box_masks=1))
    assert np.array_equal(cut.mask, cut_mask(hole.mask, hole.window, SIDE))
    assert np.count_nonzero(cut.mask) > 1.3 * np.count_nonzero(square(HoleConfig()).mask)


def test_outside_a_random_hole_is_what_has_to_be_rebuilt() -> None:
    holes = HoleConfig(random_masks=1)
    first, again, other = square(holes), square(holes), square(holes, seed=1)
    assert np.array_equal(first.picture, first.truth)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.mask, other.mask)
    assert 0 < np.count_nonzero(first.mask) < SIDE * SIDE


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_shares_are_kept(share: float) -> None:
    shape, box = square(HoleConfig()).mask, square(HoleConfig(box_masks=1)).mask
    boxes = [square(HoleConfig(box_masks=share), seed).mask for seed in range(80)]
    assert all(np.array_equal(mask, shape) or np.array_equal(mask, box) for mask in boxes)
    assert np.mean([np.array_equal(mask, box) for mask in boxes]) == pytest.approx(share, abs=0.13)
    randoms = [square(HoleConfig(random_masks=share, box_masks=1), seed) for seed in range(80)]
    assert np.mean([cut.picture is cut.truth for cut in randoms]) == pytest.approx(share, abs=0.13)
