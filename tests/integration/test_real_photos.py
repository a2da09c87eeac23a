"""Twenty removals on real photos with true masks: nothing else changes, flat ground has no step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from textremove.images import decode_image, decode_mask
from textremove.inpaint.crop import FillConfig, Hole, changeable, open_holes
from textremove.pipe.prepared import prepared_rows
from textremove.presets import load_inpainter
from textremove.removal import fill_holes

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NUM_PHOTOS = 20
BAND = 6
"""Pixels on either side of a hole's edge that are compared."""


@pytest.fixture(scope="module")
def rows(prepared_coco: Path) -> list[dict[str, Any]]:
    return [row for split in ("train", "val", "test") for row in prepared_rows(prepared_coco, split=split)]


@pytest.fixture(scope="module")
def photos(rows: list[dict[str, Any]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and true masks, one of each photo."""
    by_photo = sorted({row["photo_id"]: row for row in rows}.items())[:NUM_PHOTOS]
    return [(decode_image(row["image"]), decode_mask(row["mask"])) for _, row in by_photo]


def _near(picture: np.ndarray, where: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of a picture in an area near each pixel, and how much of it is near."""
    weight = where.astype(np.float32)
    near = cv2.GaussianBlur(weight, (0, 0), sigma)
    values = picture.astype(np.float32)
    mean, square = (
        cv2.GaussianBlur(each * weight[..., None], (0, 0), sigma) / np.maximum(near, 1e-6)[..., None]
        for each in (values, values**2)
    )
    return mean, np.sqrt(np.maximum(square - mean**2, 0)), near


def steps_on_flat_ground(photo: np.ndarray, result: np.ndarray, hole: Hole) -> np.ndarray:
    """How far the inside of a hole is from its outside, in grey levels, along the edge where that is flat."""
    outside = cv2.distanceTransform((hole.hidden == 0).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform((hole.mask > 0).astype(np.uint8), cv2.DIST_L2, 5)
    sigma = hole.feather + BAND
    around = (outside > hole.feather) & (outside <= sigma)
    ground, deviation, near = _near(photo, around, sigma)
    filled, _, _ = _near(result, (inside > 0) & (inside <= BAND), sigma)
    flat = (inside > 0) & (inside <= 1.5) & (near > 0.02) & (deviation.max(axis=2) < 5)
    return np.abs(ground - filled)[flat].max(axis=1)


@pytest.mark.parametrize(("name", "most"), [("telea", 1.5), ("tiny", 3.0)])
def test_twenty_removals(photos: list[tuple[np.ndarray, np.ndarray]], name: str, most: float) -> None:
    inpainter, config = load_inpainter(name), FillConfig()
    assert len(photos) == NUM_PHOTOS
    steps = []
    for image, mask in photos:
        result = fill_holes(inpainter, [image], [mask], [0], config)[0]
        allowed = changeable(mask, resolution=inpainter.resolution, config=config)
        assert np.array_equal(result[~allowed], image[~allowed])
        assert (result != image)[mask > 0].any()
        steps += [
            steps_on_flat_ground(image, result, hole)
            for hole in open_holes(mask, resolution=inpainter.resolution, config=config)
        ]
    along_flat_edges = np.concatenate(steps)
    assert len(along_flat_edges) > 300
    # As painted, tiny has 4.8. The mean says little: a thing that touches the hole is a step, too.
    assert np.median(along_flat_edges) < most


@pytest.mark.parametrize("name", ["telea", "tiny"])
def test_behind_an_umbrella_is_sky_and_not_the_dress_of_who_holds_it(
    rows: list[dict[str, Any]], name: str
) -> None:
    (row,) = (row for row in rows if row["prompt"] == "umbrella at the center")
    image, mask = decode_image(row["image"]), decode_mask(row["mask"])
    inside = cv2.erode(mask, np.ones((25, 25), np.uint8)) > 0
    roughness = {}
    for occluders in ("never", "auto"):
        config = FillConfig(occluders=occluders)
        result = fill_holes(load_inpainter(name), [image], [mask], [0], config)[0]
        second_differences = cv2.Laplacian(result.astype(np.float32), cv2.CV_32F)
        roughness[occluders] = np.abs(second_differences).max(axis=2)[inside].mean()
    assert roughness["never"] > 10  # hair, and a dress of flowers
    assert roughness["auto"] < 5
