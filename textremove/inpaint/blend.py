"""Colour match: takes out of a filling what sets it off from its surroundings, so that no seam is left.

Two things do. A lossy VAE and a small UNet bring the whole square back a little off in colour, inside the
hole and around it alike; around the hole the photo says by how much. And what is painted in the hole may not
meet its surroundings at the rim. Each difference, known where it can be measured and continued smoothly into
the hole, is added to the filling: the membrane of Poisson image editing (Perez, Gangnet and Blake 2003),
here by weighted averages from coarse to fine instead of a linear system.
"""

from __future__ import annotations

import cv2
import numpy as np

CELL = 4
"""Pixels along a cell in which a difference is averaged: finer than that it is texture, not shift."""

RIM = 4
"""Width in pixels of the bands along a hole's edge that are compared."""

_SIGMA = 3.0  # how far along the edge a band is averaged
_NOTHING = 1e-5
_EDGE_LEVELS = 40.0  # a step of about so many grey levels may be the true edge of what stands beside the hole


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
    shift_HWC = (photo.astype(np.float32) - filled) * known_HW[..., None]
    if not shift_HWC.any():
        return filled
    matched_HWC = filled + continue_inwards(shift_HWC, known_HW)
    step_HWC, trust_HW = _step_at_the_rim(matched_HWC, photo.astype(np.float32), known_HW)
    if trust_HW.any():
        inside_HW1 = 1 - known_HW[..., None]
        matched_HWC = matched_HWC + inside_HW1 * continue_inwards(step_HWC * trust_HW[..., None], trust_HW)
    return np.clip(np.rint(matched_HWC), 0, 255).astype(np.uint8)


def _step_at_the_rim(
    filled_HWC: np.ndarray, photo_HWC: np.ndarray, known_HW: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far the photo, continued over a hole's edge, is from the filling inside it.

    It is continued by its own slope, from two bands outside, since a ramp across the edge is no step.

    Returns:
        The step, float32 (height, width, 3), and how far to trust it, float32 (height, width) in [0, 1]:
        nought but along the inside of the edge.
    """
    inner_HW = _band(1 - known_HW, 0)
    outside_HWC, near_HW = mean_nearby(photo_HWC, _band(known_HW, 0))
    further_HWC, further_near_HW = mean_nearby(photo_HWC, _band(known_HW, 1))
    is_wide_HW1 = further_near_HW[..., None] > _NOTHING  # a narrow margin has no slope
    slope_HWC = np.where(is_wide_HW1, outside_HWC - further_HWC, 0)
    inside_HWC, _ = mean_nearby(filled_HWC, inner_HW)
    step_HWC = outside_HWC + slope_HWC - inside_HWC
    largest_HW = np.abs(step_HWC).max(axis=2)
    trust_HW = inner_HW * (near_HW > 0.02) / (1 + np.square(largest_HW / _EDGE_LEVELS))
    return step_HWC, trust_HW.astype(np.float32)


def _band(area_HW: np.ndarray, number: int) -> np.ndarray:
    """The pixels of an area between `number` and one more times RIM from its edge, as 0.0 and 1.0."""
    distance_HW = cv2.distanceTransform(area_HW.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return ((distance_HW > number * RIM) & (distance_HW <= (number + 1) * RIM)).astype(np.float32)


def mean_nearby(
    values_HWC: np.ndarray, where_HW: np.ndarray, *, sigma: float = _SIGMA
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of what lies in an area near each pixel, and which share of what is near it is of the area."""
    near_HW = cv2.GaussianBlur(where_HW, (0, 0), sigma)
    sum_HWC = cv2.GaussianBlur(values_HWC * where_HW[..., None], (0, 0), sigma)
    return sum_HWC.reshape(values_HWC.shape) / np.maximum(near_HW, _NOTHING)[..., None], near_HW


def continue_inwards(weighted_HWC: np.ndarray, weight_HW: np.ndarray) -> np.ndarray:
    """Continues values, multiplied by their weights, to where the weight is nought.

    By cells, from the whole square's mean down to the nearest cells' own.
    """
    height, width = weight_HW.shape
    cells = (max(width // CELL, 1), max(height // CELL, 1))
    weight_hw = cv2.resize(weight_HW, cells, interpolation=cv2.INTER_AREA)
    weighted_hwC = cv2.resize(weighted_HWC, cells, interpolation=cv2.INTER_AREA)
    weighted_hwC = weighted_hwC.reshape(*weight_hw.shape, -1)  # OpenCV drops the axis of a single channel
    result_hwC = np.broadcast_to(weighted_hwC.sum(axis=(0, 1)) / weight_hw.sum(), weighted_hwC.shape)
    sigma = max(weight_hw.shape) / 4
    while sigma >= 0.5:
        near_hw = cv2.GaussianBlur(weight_hw, (0, 0), sigma)
        sum_hwC = cv2.GaussianBlur(weighted_hwC, (0, 0), sigma).reshape(weighted_hwC.shape)
        mean_hwC = sum_hwC / np.maximum(near_hw, 1e-6)[..., None]
        trust_hw1 = np.clip(2 * near_hw, 0, 1)[..., None]
        result_hwC = trust_hw1 * mean_hwC + (1 - trust_hw1) * result_hwC
        sigma /= 2
    return cv2.resize(result_hwC.astype(np.float32), (width, height)).reshape(height, width, -1)
