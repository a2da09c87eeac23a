from __future__ import annotations

import math

import numpy as np
import pytest

from textremove.inpaint.metrics import PERFECT, in_mask_error, pooled_psnr, psnr


def test_only_pixels_of_the_mask_count() -> None:
    truth = np.full((4, 4, 3), 100, np.uint8)
    filled, mask = truth.copy(), np.zeros((4, 4), np.uint8)
    mask[:2, :2] = 255
    filled[0, 0] = 90  # one of four masked pixels is off by ten
    filled[3, 3] = 0  # outside: no matter
    assert in_mask_error(filled, truth, mask) == 25


def test_differences_do_not_wrap_around() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    mask = np.full((2, 2), 255, np.uint8)
    assert in_mask_error(black, white, mask) == in_mask_error(white, black, mask) == 255**2


def test_an_empty_mask_has_no_score() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="empty"):
        in_mask_error(image, image, np.zeros((2, 2), np.uint8))


def test_psnr_in_decibels() -> None:
    assert psnr(255**2) == 0
    assert psnr(255**2 / 1000) == pytest.approx(30)
    assert psnr(0) == PERFECT


def test_pooled_psnr_weighs_by_pixels() -> None:
    assert pooled_psnr([100.0, 4.0], [1, 3]) == pytest.approx(10 * math.log10(255**2 / 28))
