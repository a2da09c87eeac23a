"""Colour match: a shift that the surroundings show is taken out of the filling, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from textremove.inpaint.blend import match_surroundings
from textremove.inpaint.classical import ClassicalInpainter


@pytest.fixture
def photo() -> np.ndarray:
    ramp = np.linspace(40, 200, 64)
    return np.stack(
        [ramp[None] + 0 * ramp[:, None], ramp[:, None] + 0 * ramp, np.full((64, 64), 90)], -1
    ).astype(np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:44, 16:40] = 255
    return mask


def test_a_constant_shift_is_taken_out(photo: np.ndarray, mask: np.ndarray) -> None:
    filled = photo + np.array([9, 0, 17], np.uint8)
    matched = match_surroundings(filled, photo, mask)
    assert np.abs(matched.astype(int) - photo).max() <= 1


def test_a_shift_that_grows_across_the_hole_is_taken_out(photo: np.ndarray, mask: np.ndarray) -> None:
    shift = np.linspace(-20, 20, 64)[None, :, None]
    filled = np.rint(photo + shift).astype(np.uint8)
    hole = mask > 0
    before = np.abs(filled.astype(int) - photo)[hole].mean()
    after = np.abs(match_surroundings(filled, photo, mask).astype(int) - photo)[hole].mean()
    assert after < 0.4 * before


def test_what_is_painted_in_the_hole_stays(photo: np.ndarray, mask: np.ndarray) -> None:
    filled = photo.copy()
    filled[28:36, 24:32] = (255, 0, 0)
    assert np.array_equal(match_surroundings(filled, photo, mask), filled)


def test_classical_fillings_come_back_as_they_are(photo: np.ndarray, mask: np.ndarray) -> None:
    filled = ClassicalInpainter().inpaint([photo], [mask], [0])[0]
    assert np.array_equal(match_surroundings(filled, photo, mask), filled)


def test_a_hole_without_surroundings_is_left(photo: np.ndarray) -> None:
    filled = 255 - photo
    assert match_surroundings(filled, photo, np.full((64, 64), 255, np.uint8)) is filled


def test_a_step_that_only_the_filling_has_is_taken_out(photo: np.ndarray, mask: np.ndarray) -> None:
    """The filling is the truth but for a tint, which its surroundings do not have; they are a level off."""
    filled = photo.copy() + np.uint8(1)
    filled[mask > 0] += np.array([12, 0, 20], np.uint8)
    error = np.abs(match_surroundings(filled, photo, mask).astype(int) - photo)[mask > 0]
    assert error.mean() < 1
    assert error.max() <= 3


@pytest.mark.parametrize("margin", [1, 3, 5, 9])
def test_a_narrow_margin_is_no_slope(margin: int) -> None:
    truth = np.full((64, 64, 3), 150, np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[margin:-margin, margin:-margin] = 255
    filled = np.where(mask[..., None] > 0, truth - np.uint8(20), truth + np.uint8(2))
    assert np.abs(match_surroundings(filled, truth, mask).astype(int) - truth).max() <= 2


def test_a_dark_neighbour_at_the_edge_of_the_hole_does_not_bleed_into_it(mask: np.ndarray) -> None:
    truth = np.full((64, 64, 3), 200, np.uint8)
    truth[:, :16] = 10  # what stands at the left of the hole, to the pixel
    filled = np.where(mask[..., None] > 0, truth, truth + np.uint8(2))
    matched = match_surroundings(filled, truth, mask)
    assert np.abs(matched.astype(int) - truth)[mask > 0].mean() < 12
