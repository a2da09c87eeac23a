"""Objects of which a part is gone: what a removal leaves whose mask missed some of its object.

A segmenter that is to check removals must see what is left over, and whole objects alone do not teach it.
"""

from __future__ import annotations

import cv2
import numpy as np

_LEAST = 0.2  # of the object stays, and as much goes
_RIM = 7  # pixels around the part that goes, which show its outline
_TRIES = 8


def remnant(
    image: np.ndarray, truth: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Takes away the part of an object on one side of a line drawn through it.

    Args:
        image: RGB uint8 (height, width, 3), with the object.
        truth: The same without it.
        mask: uint8 (height, width), 255 on the object.
        rng: Draws the line.

    Returns:
        The image and the mask of what is left; both as they were where the object is too small to be cut.
    """
    rows_N, columns_N = np.nonzero(mask)
    height, width = mask.shape
    for _ in range(_TRIES if len(rows_N) else 0):
        angle, k = rng.uniform(0, 2 * np.pi), rng.integers(len(rows_N))
        beyond_row = np.sin(angle) * (np.arange(height) - rows_N[k])
        beyond_column = np.cos(angle) * (np.arange(width) - columns_N[k])
        gone_HW = beyond_row[:, None] + beyond_column > 0
        if _LEAST <= gone_HW[rows_N, columns_N].mean() <= 1 - _LEAST:
            wide_HW = cv2.dilate(mask, np.ones((_RIM, _RIM), np.uint8)) > 0
            return (
                np.where((wide_HW & gone_HW)[..., None], truth, image),
                np.where(gone_HW, 0, mask).astype(np.uint8),
            )
    return image, mask
