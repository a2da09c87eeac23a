"""Colour match: takes the shift out of a filling that its surroundings show, so that no seam is left.

A lossy VAE and a small UNet bring the whole square back a little off in colour, inside the hole and
around it alike. Around the hole the photo says by how much. That difference, continued smoothly into the
hole, is added to the filling: the membrane of Poisson image editing (Perez, Gangnet and Blake 2003), here
by weighted averages from coarse to fine instead of a linear system.
"""

from __future__ import annotations

import cv2
import numpy as np

CELL = 4
"""Pixels along a cell in which the difference is averaged: finer than that it is texture, not shift."""


def match_surroundings(filled: np.ndarray, photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Shifts the colours of a filled square to those of the photo around the hole.

    A filling that equals the photo outside the hole, as the classical ones do, comes back as it is.

    Args:
        filled: RGB uint8 (height, width, 3), the whole square as the inpainter gave it.
        photo: RGB uint8 (height, width, 3), the square as it was.
        mask: uint8 (height, width), 255 = hole.

    Returns:
        RGB uint8 (height, width, 3). A hole without surroundings is left as filled.
    """
    known_HW = (mask == 0).astype(np.float32)
    if not known_HW.any():
        return filled
    height, width = mask.shape
    cells = (max(width // CELL, 1), max(height // CELL, 1))
    shift_HWC = (photo.astype(np.float32) - filled) * known_HW[..., None]
    weight_hw = cv2.resize(known_HW, cells, interpolation=cv2.INTER_AREA)
    shift_hwC = _continue(cv2.resize(shift_HWC, cells, interpolation=cv2.INTER_AREA), weight_hw)
    return np.clip(np.rint(filled + cv2.resize(shift_hwC, (width, height))), 0, 255).astype(np.uint8)


def _continue(weighted_hwC: np.ndarray, weight_hw: np.ndarray) -> np.ndarray:
    """Fills in where the weight is nought: from the whole square's mean down to the nearest cells' own."""
    total = weight_hw.sum()
    result_hwC = np.broadcast_to(weighted_hwC.sum(axis=(0, 1)) / total, weighted_hwC.shape)
    sigma = max(weight_hw.shape) / 4
    while sigma >= 0.5:
        near_hw = cv2.GaussianBlur(weight_hw, (0, 0), sigma)
        mean_hwC = cv2.GaussianBlur(weighted_hwC, (0, 0), sigma) / np.maximum(near_hw, 1e-6)[..., None]
        trust_hw1 = np.clip(2 * near_hw, 0, 1)[..., None]
        result_hwC = trust_hw1 * mean_hwC + (1 - trust_hw1) * result_hwC
        sigma /= 2
    return result_hwC.astype(np.float32)
