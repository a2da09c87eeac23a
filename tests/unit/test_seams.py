"""Seams: on flat ground, on a ramp and on texture there is no step at the edge of a filling."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from textremove.inpaint.classical import ClassicalInpainter
from textremove.inpaint.crop import FillConfig, feathered_alpha, open_hole
from textremove.inpaint.protocol import Inpainter
from textremove.removal import fill_holes


class OffColour:
    """Knows the ground, and gives the square back in colours a lossy VAE would: shifted, less contrast."""

    resolution = 128
    multiple = 8
    textured = True

    def __init__(self, ground: np.ndarray) -> None:
        self.ground = ground

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        height, width = images[0].shape[:2]
        shown = cv2.resize(self.ground, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        shifted = shown * (0.93, 1.05, 0.97) + (9, -7, 4)
        return [np.clip(np.rint(shifted), 0, 255).astype(np.uint8) for _ in images]


def ground_of(kind: str, side: int) -> np.ndarray:
    flat = np.full((side, side, 3), (120, 150, 90), np.float32)
    if kind == "ramp":
        flat += np.linspace(-50, 50, side)[:, None, None]
    if kind == "texture":
        flat += np.random.default_rng(0).normal(0, 12, (side, side, 1))
    return np.clip(np.rint(flat), 0, 255).astype(np.uint8)


def object_on(ground: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    side = len(ground)
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), round(share * side), 255, -1)
    image = ground.copy()
    image[mask > 0] = (230, 30, 40)
    return image, mask


def step_at_the_edge(result: np.ndarray, ground: np.ndarray, alpha: np.ndarray) -> float:
    """Mean colours just inside and just outside, less the ground's own, in grey levels."""
    error = result.astype(np.float32) - ground
    width = max(3, len(ground) // 64)
    inside = (alpha > 0) & (cv2.erode((alpha > 0).astype(np.uint8), np.ones((3, 3)), iterations=width) == 0)
    outside = (alpha == 0) & (cv2.dilate((alpha > 0).astype(np.uint8), np.ones((3, 3)), iterations=width) > 0)
    return float(np.abs(error[inside].mean(axis=0) - error[outside].mean(axis=0)).max())


@pytest.mark.parametrize("kind", ["flat", "ramp", "texture"])
@pytest.mark.parametrize(
    ("method", "side", "share"),
    [
        ("off-colour", 128, 0.2),
        ("off-colour", 400, 0.2),
        ("off-colour", 256, 0.4),
        ("off-colour", 50, 0.2),
        ("telea", 200, 0.2),
        ("navier-stokes", 200, 0.2),
    ],
)
def test_no_step_at_the_edge_and_nothing_changed_outside(
    kind: str, method: str, side: int, share: float
) -> None:
    ground = ground_of(kind, side)
    image, mask = object_on(ground, share)
    inpainter: Inpainter = OffColour(ground) if method == "off-colour" else ClassicalInpainter(method)
    result = fill_holes(inpainter, [image], [mask], [0])[0]
    hole = open_hole(mask, resolution=inpainter.resolution, config=FillConfig())
    alpha = feathered_alpha(hole.mask, hole.feather)
    assert np.array_equal(result[alpha == 0], image[alpha == 0])
    assert step_at_the_edge(result, ground, alpha) <= (1.0 if kind == "flat" else 2.0)
    if kind == "flat":
        assert np.abs(result.astype(int) - ground).max() <= 2, "the flat ground has a patch"


def test_nine_tenths_of_a_photo_are_filled() -> None:
    ground = ground_of("ramp", 300)
    mask = np.zeros((300, 300), np.uint8)
    mask[8:-8, 8:-8] = 255
    image = np.where(mask[..., None] > 0, np.uint8(255), ground)
    result = fill_holes(ClassicalInpainter(), [image], [mask], [0])[0]
    assert (mask > 0).mean() > 0.89
    assert np.abs(result.astype(int) - ground).mean() < 15
    assert np.array_equal(result[:2, :2], image[:2, :2])
