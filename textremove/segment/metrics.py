"""How much two masks agree (paper section 5.1)."""

from __future__ import annotations

import numpy as np


def dice(predicted: np.ndarray, true: np.ndarray) -> float:
    """Dice score of two masks: twice the shared area over the sum of areas, in [0, 1].

    Args:
        predicted: (height, width), non-zero = in the mask.
        true: (height, width), likewise.

    Returns:
        1.0 when both are empty.
    """
    a, b = predicted != 0, true != 0
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def iou(predicted: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two masks, in [0, 1]; 1.0 when both are empty. Arguments as `dice`."""
    a, b = predicted != 0, true != 0
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
