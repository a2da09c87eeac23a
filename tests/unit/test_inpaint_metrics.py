from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from textremove.inpaint.classical import ClassicalInpainter
from textremove.inpaint.crop import FillConfig, changeable
from textremove.inpaint.metrics import (
    PERFECT,
    band_around,
    hole_crop,
    in_mask_error,
    outside_difference,
    pooled_psnr,
    psnr,
    ssim_in,
)
from textremove.removal import fill_holes


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


def photo_and_mask(side: int = 60) -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(40, 200, (side, side + 20, 3), np.uint8)
    mask = np.zeros((side, side + 20), np.uint8)
    mask[20:30, 30:50] = 255  # the larger side is 20: a crop of 40, a band of 4
    return image, mask


def test_the_band_lies_around_the_mask_a_tenth_of_the_crop_wide() -> None:
    _, mask = photo_and_mask()
    band = band_around(mask)
    assert hole_crop(mask).side == 40
    assert not (band[mask > 0]).any()
    assert band[25, 26:30].all()
    assert not band[25, :26].any()
    assert band[16:20, 40].all()
    assert not band[:16, 40].any()
    assert band[19, 29]
    assert not band[16, 26]  # round corners
    np.testing.assert_array_equal(cv2.boundingRect(band), (26, 16, 28, 18))


def test_the_band_ends_with_the_photo_and_may_be_empty() -> None:
    everything = np.full((8, 8), 255, np.uint8)
    assert not band_around(everything).any()
    corner = np.zeros((40, 40), np.uint8)
    corner[:10, :10] = 255
    assert band_around(corner)[10:12, 0].all()
    assert np.count_nonzero(band_around(corner)) == 2 * 10 * 2 + 1


def test_the_truth_itself_is_perfect_in_the_mask_and_in_the_band() -> None:
    image, mask = photo_and_mask()
    for where in (mask, band_around(mask)):
        assert psnr(in_mask_error(image, image, where)) == PERFECT
        assert ssim_in(image, image, where) == pytest.approx(1.0)


def test_a_constant_shift_has_a_known_psnr_and_keeps_most_of_the_structure() -> None:
    image, mask = photo_and_mask()
    shifted = image + np.uint8(10)
    assert psnr(in_mask_error(shifted, image, mask)) == pytest.approx(20 * math.log10(25.5))
    assert 0.95 < ssim_in(shifted, image, mask) < 1


def test_structure_is_compared_where_the_mask_is_and_nowhere_else() -> None:
    image, mask = photo_and_mask()
    flat = image.copy()
    flat[mask > 0] = 120
    assert ssim_in(flat, image, mask) < 0.4
    far = np.zeros_like(mask)
    far[50:, :10] = 255
    assert ssim_in(flat, image, far) == pytest.approx(1.0)
    whole = structural_similarity_index_measure(
        *(torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32)) for x in (flat, image)),
        data_range=255.0, return_full_image=True,
    )[1][0].mean(dim=0).numpy()  # fmt: skip
    assert ssim_in(flat, image, mask) == pytest.approx(whole[mask > 0].mean(), abs=1e-5)


def test_a_photo_smaller_than_a_window_has_no_similarity() -> None:
    tiny = np.zeros((5, 40, 3), np.uint8)
    assert ssim_in(tiny, tiny, np.full((5, 40), 255, np.uint8)) is None
    small = np.zeros((7, 7, 3), np.uint8)
    assert ssim_in(small, small, np.full((7, 7), 255, np.uint8)) == pytest.approx(1.0)


def test_a_change_outside_of_what_may_change_is_found_however_small() -> None:
    image, mask = photo_and_mask()
    allowed = changeable(mask, resolution=16, config=FillConfig())
    filled = np.where(allowed[..., None], 0, image).astype(np.uint8)
    assert outside_difference(filled, image, allowed) == 0
    y, x = np.argwhere(~allowed)[0]
    filled[y, x, 1] += 1
    assert outside_difference(filled, image, allowed) == 1
    assert outside_difference(filled, image, np.ones_like(allowed)) == 0


@pytest.mark.parametrize(
    "config", [FillConfig(), FillConfig(shape="box", dilation=0.1), FillConfig(feather=0)]
)
def test_what_may_change_is_what_filling_changes(config: FillConfig) -> None:
    image, mask = photo_and_mask(200)
    mask[150:160, 150:155] = 255
    inpainter = ClassicalInpainter()
    allowed = changeable(mask, resolution=inpainter.resolution, config=config)
    # Everything under the mask becomes one colour, so that everything that may change does.
    inpainter.inpaint = lambda images, masks, seeds: [np.zeros_like(each) for each in images]
    config = replace(config, match_colours=False, exemplars="never")
    filled = fill_holes(inpainter, [image], [mask], [0], config)[0]
    changed = (filled != image).any(axis=2)
    assert not (changed & ~allowed).any()
    assert np.count_nonzero(allowed & ~changed) <= 0.02 * np.count_nonzero(
        allowed
    )  # where it rounds to nothing
