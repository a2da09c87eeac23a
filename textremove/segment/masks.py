"""From probabilities to a mask, the box around one (paper section 5.1), and a whole segmentation."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from textremove.segment.protocol import Segmentation

MaskStrategy = Literal["box", "raw"]
DEFAULT_THRESHOLD = 0.4
"""The paper's probability threshold, used when a checkpoint stores none of its own."""

_MIN_FOUND_FRACTION = 5e-4  # a mask smaller than this part of the photo is a speck, not an object
_MIN_FOUND_PEAK = 0.5  # and somewhere the model must think it more likely there than not

SPECK = 0.2
"""A part of a mask smaller than this share of its largest part is a speck, and no object."""


def pixel_mask(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Takes what is above a threshold, without specks.

    One stray pixel far away would stretch the box around a mask across the photo. Parts of like size
    stay, since a plural prompt names several objects.

    Args:
        probability: float (height, width) in [0, 1].
        threshold: Above it a pixel is in the mask.

    Returns:
        uint8 (height, width), 0 or 255.
    """
    above = (probability > threshold).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background is a part too, to OpenCV
    kept = (areas > 0) & (areas >= SPECK * areas.max())
    return np.where(kept[labels], 255, 0).astype(np.uint8)


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Box (left, top, right, bottom) around a mask's non-zero pixels, exclusive; None when empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_mask(mask: np.ndarray) -> np.ndarray:
    """Fills the bounding box of a mask: uint8 (height, width), 0 or 255; empty stays empty."""
    filled = np.zeros(mask.shape, np.uint8)
    box = bounding_box(mask)
    if box is not None:
        left, top, right, bottom = box
        filled[top:bottom, left:right] = 255
    return filled


def segmentation_from_probability(
    probability: np.ndarray, *, threshold: float, strategy: MaskStrategy
) -> Segmentation:
    """Turns probabilities into a segmentation.

    Args:
        probability: float32 (height, width) in [0, 1].
        threshold: Above it a pixel is in the mask.
        strategy: "raw" keeps the pixels but for specks, "box" fills the box around them (paper section 5.1).
    """
    raw = pixel_mask(probability, threshold)
    inside = raw > 0
    score = float(probability[inside].mean()) if inside.any() else float(probability.max())
    found = inside.mean() >= _MIN_FOUND_FRACTION and float(probability.max()) > _MIN_FOUND_PEAK
    if not found:
        empty = np.zeros_like(raw)
        return Segmentation(mask=empty, raw=empty, score=score, found=False)
    mask = box_mask(raw) if strategy == "box" else raw
    return Segmentation(mask=mask, raw=raw, score=score, found=True)
