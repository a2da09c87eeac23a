"""How near a filling comes to what truly lay behind: PSNR inside the mask."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

PERFECT = 100.0
"""What a filling without any error is given, in dB, so that means stay finite."""


def in_mask_error(filled: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean squared error over the pixels of the true mask, in squared grey levels of 255.

    Args:
        filled: RGB uint8 (height, width, 3).
        truth: RGB uint8 (height, width, 3), the photo without the object.
        mask: uint8 (height, width), not empty; the true mask, not as it was grown for filling.

    Raises:
        ValueError: The mask is empty: there is nothing to measure.
    """
    inside = mask != 0
    if not inside.any():
        raise ValueError("the mask is empty")
    return float(np.square(filled[inside].astype(np.float64) - truth[inside]).mean())


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error in squared grey levels; at most PERFECT."""
    if mean_squared_error <= 0:
        return PERFECT
    return min(PERFECT, 10 * math.log10(255**2 / mean_squared_error))


def pooled_psnr(errors: Iterable[float], num_pixels: Iterable[int]) -> float:
    """PSNR of all masked pixels of all samples together, so that large holes count for more.

    Args:
        errors: `in_mask_error` of each sample.
        num_pixels: Pixels in each sample's mask.
    """
    weights = np.fromiter(num_pixels, np.float64)
    return psnr(float(np.average(np.fromiter(errors, np.float64), weights=weights)))
