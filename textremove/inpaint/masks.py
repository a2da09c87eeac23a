"""Masks for inpainting: random ones for training, dilation, and their size in latent space."""

from __future__ import annotations

import cv2
import numpy as np


def dilate(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Grows a mask by a number of pixels in every direction (round corners).

    Args:
        mask: uint8 (height, width), 255 = remove.
        pixels: How far, 0 or more.
    """
    if pixels <= 0 or not mask.any():
        return mask
    # By distance, since a kernel's cost grows with its area: a minute for a hundred pixels on a large photo.
    nothing = np.where(mask > 0, 0, 255).astype(np.uint8)
    distance = cv2.distanceTransform(nothing, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.where(distance <= pixels, 255, 0).astype(np.uint8)


def boxed(mask: np.ndarray) -> np.ndarray:
    """Fills the bounding box of a mask: uint8 (height, width), 0 or 255; empty stays empty."""
    left, top, width, height = cv2.boundingRect(mask)
    filled = np.zeros(mask.shape, np.uint8)
    filled[top : top + height, left : left + width] = 255
    return filled


def random_mask(
    rng: np.random.Generator, side: int, *, center: tuple[float, float] | None = None
) -> np.ndarray:
    """Draws a mask as inpainters are trained with: a box, an ellipse or a thick stroke.

    Args:
        rng: Where the randomness comes from.
        side: Pixels along a side.
        center: (x, y) in pixels to put it at; anywhere when None.

    Returns:
        uint8 (side, side), 0 or 255.
    """
    mask = np.zeros((side, side), np.uint8)
    x, y = center if center is not None else tuple(rng.uniform(0.1, 0.9, 2) * side)
    half_width, half_height = rng.uniform(0.1, 0.28, 2) * side
    kind = rng.integers(3)
    if kind == 0:
        low, high = (int(x - half_width), int(y - half_height)), (int(x + half_width), int(y + half_height))
        cv2.rectangle(mask, low, high, 255, -1)
    elif kind == 1:
        cv2.ellipse(
            mask,
            (int(x), int(y)),
            (int(half_width), int(half_height)),
            float(rng.uniform(0, 180)),
            0,
            360,
            255,
            -1,
        )
    else:
        points = [(int(x), int(y))]
        for _ in range(int(rng.integers(2, 5))):
            step = rng.uniform(-0.3, 0.3, 2) * side
            points.append((int(points[-1][0] + step[0]), int(points[-1][1] + step[1])))
        cv2.polylines(
            mask, [np.array(points, np.int32)], False, 255, thickness=int(rng.uniform(0.1, 0.24) * side)
        )
    return mask
