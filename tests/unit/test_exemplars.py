"""Rebuilding from patches: a draft becomes as sharp as the photo around it, from nothing but that photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textremove.inpaint.classical import ClassicalInpainter
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.exemplars import copied, rebuild
from textremove.removal import fill_holes


def bricks(side: int) -> np.ndarray:
    y, x = np.indices((side, side))
    row = y // 12
    mortar = (y % 12 < 2) | ((x + 10 * (row % 2)) % 20 < 2)
    return np.where(mortar[..., None], np.uint8(205), np.array([150, 70, 50], np.uint8))


def noise(side: int) -> np.ndarray:
    grain = np.random.default_rng(0).normal(0, 25, (side, side, 1))
    return np.clip(np.array([60, 120, 40]) + grain, 0, 255).astype(np.uint8)


def round_hole(side: int, share: float = 0.2) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), round(share * side), 255, -1)
    return mask


def blurred(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What an inpainter without texture gives: the colours of the truth."""
    return np.where(mask[..., None] > 0, cv2.GaussianBlur(truth, (0, 0), len(truth) / 16), truth)


def error(result: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    return float(np.abs(result.astype(int) - truth)[mask > 0].mean())


@pytest.mark.parametrize("side", [100, 128, 300])
def test_a_pattern_goes_on_in_the_hole(side: int) -> None:
    truth, mask = bricks(side), round_hole(side)
    draft = blurred(truth, mask)
    photo = np.where(mask[..., None] > 0, np.array([0, 0, 255], np.uint8), truth)
    assert error(rebuild(draft, photo, mask), truth, mask) < 0.35 * error(draft, truth, mask)


def test_grass_is_filled_with_grass_at_the_photo_s_own_resolution() -> None:
    truth, mask = noise(500), round_hole(500)
    rebuilt = rebuild(blurred(truth, mask), truth, mask)
    inside = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0
    assert blurred(truth, mask)[inside].std(axis=0).max() < 2
    assert rebuilt[inside].std(axis=0).min() > 0.6 * truth[~inside].std(axis=0).min()


def test_a_tint_that_the_photo_does_not_have_goes() -> None:
    """The lilac patch that a tiny base leaves in a white sky; other things beside the hole stay out of it."""
    sky, mask = np.full((256, 256, 3), 246, np.uint8), round_hole(256)
    sky[:, :40] = (90, 80, 70)
    draft = np.where(mask[..., None] > 0, np.array([232, 222, 240], np.uint8), sky)
    assert error(draft, sky, mask) > 14
    rebuilt = rebuild(draft, sky, mask)
    assert np.abs(rebuilt.astype(int) - sky)[mask > 0].max() <= 3


def test_smooth_ground_stays_smooth() -> None:
    ramp = np.broadcast_to(np.linspace(60, 220, 256)[None, :, None], (256, 256, 3)).astype(np.uint8)
    mask = round_hole(256)
    assert np.abs(rebuild(ramp, ramp, mask).astype(int) - ramp).max() <= 3


def test_outside_the_hole_only_its_edge_changes_and_what_is_hidden_is_not_copied() -> None:
    photo, mask = noise(200), round_hole(200, 0.15)
    photo[150:190, 150:190] = (255, 0, 0)  # another object that is to go
    mask[148:192, 148:192] = 255
    draft = np.where(mask[..., None] > 0, np.array([200, 60, 30], np.uint8), photo)  # as if it were to stay
    rebuilt = rebuild(draft, photo, mask)
    far = cv2.dilate(mask, np.ones((31, 31), np.uint8)) == 0
    assert np.array_equal(rebuilt[far], photo[far])
    assert not ((rebuilt[..., 0] > 240) & (rebuilt[..., 1] < 20)).any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 300), (300, 5), (40, 40), (9, 64)])
def test_without_enough_photo_the_draft_stays(height: int, width: int) -> None:
    draft, photo = np.full((2, height, width, 3), 7, np.uint8)
    mask = np.full((height, width), 255, np.uint8)
    mask[:, : width // 10] = 0
    assert rebuild(draft, photo, mask) is draft


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    seed=st.integers(0, 1000),
    share=st.floats(0.01, 0.9),
)
def test_any_shape_and_hole_gives_a_picture_of_the_same_shape(
    height: int, width: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    draft, photo = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    mask[y : y + max(1, int(share * height)), x : x + max(1, int(share * width))] = 255
    rebuilt = rebuild(draft, photo, mask)
    assert (rebuilt.shape, rebuilt.dtype) == (photo.shape, np.uint8)


@pytest.mark.parametrize("truth", [bricks(128), noise(128)], ids=["bricks", "noise"])
def test_the_number_of_threads_makes_no_difference(truth: np.ndarray) -> None:
    mask = round_hole(128)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(rebuild(blurred(truth, mask), truth, mask))
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(result, results[0]) for result in results)


def test_a_piece_that_is_copied_is_copied_bit_for_bit() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    offsets = np.zeros((20, 30, 2), np.int64)
    offsets[5:15, 5:15] = (2, 10)  # three times as far in the photo: 6 down, 30 to the right
    result = copied(photo, offsets)
    assert np.array_equal(result[17:43, 17:43], photo[23:49, 47:73])
    assert np.array_equal(result[:, 60:], photo[:, 60:])


def test_a_streak_in_the_draft_that_is_like_nothing_in_the_photo_goes() -> None:
    """What Telea draws from the end of a branch into a white sky."""
    photo, mask = np.full((128, 128, 3), 245, np.uint8), round_hole(128)
    draft = photo.copy()
    draft[64:67, 40:64] = 150
    assert np.abs(rebuild(draft, photo, mask).astype(int) - photo)[mask > 0].max() < 30


def test_what_is_like_nothing_in_the_photo_stays_the_draft_s() -> None:
    """Better a blur than a piece of something else."""
    photo, mask = np.full((128, 128, 3), 30, np.uint8), round_hole(128)
    photo[:, ::8] = 60
    draft = np.where(mask[..., None] > 0, np.array([220, 200, 40], np.uint8), photo)
    assert error(rebuild(draft, photo, mask), draft, mask) < 10


def test_detail_too_fine_to_be_compared_goes_on_as_it_is_around_the_hole() -> None:
    """A wall as green as the grass is most like a draft without texture, and is no grass."""
    truth, mask = noise(512), round_hole(512)
    truth[:, :120] = (60, 120, 40)
    draft = np.where(mask[..., None] > 0, np.array([60, 120, 40], np.uint8), truth)
    rebuilt = rebuild(draft, truth, mask)
    inside = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0
    assert rebuilt[inside].std(axis=0).min() > 0.7 * truth[:, 120:].reshape(-1, 3).std(axis=0).min()


def test_flat_ground_shows_no_edges_of_pieces() -> None:
    """Clouds: in pieces, each a little off, they would be a quilt."""
    side = 512
    grain = np.random.default_rng(2).normal(0, 1, (side, side, 1)).astype(np.float32)
    clouds = 160 + 900 * cv2.GaussianBlur(grain, (0, 0), 24)[..., None]
    sky = np.clip(clouds * np.array([0.8, 0.95, 1.1]), 0, 255).astype(np.uint8)
    mask = round_hole(side, 0.3)
    rebuilt = rebuild(blurred(sky, mask), sky, mask)

    def roughness(picture: np.ndarray, where: np.ndarray) -> float:
        return float(np.abs(cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F))[where].mean())

    inside = cv2.erode(mask, np.ones((41, 41), np.uint8)) > 0
    assert roughness(rebuilt, inside) < 1.5 * roughness(sky, mask == 0)


class Blurry:
    """An inpainter whose fillings are the truth, blurred."""

    resolution = 128
    multiple = 8

    def __init__(self, truth: np.ndarray, *, textured: bool) -> None:
        self.truth = truth
        self.textured = textured

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        return [blurred(self.truth, mask) for mask in masks]


@pytest.mark.parametrize(
    ("exemplars", "textured", "is_rebuilt"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("always", True, True),
        ("never", False, False),
    ],
)
def test_fillings_without_texture_are_rebuilt_unless_said(
    exemplars: str, textured: bool, is_rebuilt: bool
) -> None:
    truth, mask = bricks(128), round_hole(128)
    config = replace(FillConfig(), exemplars=exemplars)
    inpainter = Blurry(truth, textured=textured)
    result = fill_holes(inpainter, [truth], [mask], [0], config)[0]
    drafted = error(blurred(truth, mask), truth, mask)
    assert (error(result, truth, mask) < 0.5 * drafted) == is_rebuilt


def test_a_classical_filling_is_rebuilt() -> None:
    truth, mask = bricks(200), round_hole(200)
    plain, rebuilt = (
        fill_holes(ClassicalInpainter(), [truth], [mask], [0], FillConfig(exemplars=how))[0]
        for how in ("never", "auto")
    )
    assert error(rebuilt, truth, mask) < 0.6 * error(plain, truth, mask)
