"""Choosing a segmenter's threshold and mask strategy on validation data (paper section 5.1).

Legend of axes: B batch, H height, W width, T thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textremove.segment.masks import box_mask, pixel_mask
from textremove.segment.metrics import dice, iou

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(2, 19))
"""Probabilities tried: 0.1 to 0.9."""

STRATEGIES = ("raw", "box")
"""The mask as it is, or its bounding box filled. Each is scored against the true mask made likewise."""

_SCORES = ("dice", "iou")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was chosen, and what it scores.

    Attributes:
        strategy: "raw" or "box": whichever has the higher mean Dice at its own best threshold.
        threshold: The best threshold of that strategy.
        thresholds: The best threshold of each strategy.
        scores: Mean scores at those: "raw_dice", "raw_iou", "box_dice", "box_iou".
    """

    strategy: str
    threshold: float
    thresholds: dict[str, float]
    scores: dict[str, float]


def threshold_scores(probability_BHW: np.ndarray, mask_BHW: np.ndarray) -> np.ndarray:
    """Scores predictions under both strategies at every threshold.

    Args:
        probability_BHW: float, of the mask.
        mask_BHW: The true mask, non-zero = object.

    Returns:
        float64 (B, T, 2, 2): by STRATEGIES, then Dice and IoU; 1.0 where both masks are empty.
    """
    scores = np.empty((len(probability_BHW), len(THRESHOLDS), len(STRATEGIES), len(_SCORES)))
    for k, (probability_HW, mask_HW) in enumerate(zip(probability_BHW, mask_BHW, strict=True)):
        true_box = box_mask(mask_HW)
        for t, threshold in enumerate(THRESHOLDS):
            raw = pixel_mask(probability_HW, threshold)
            box = box_mask(raw)
            scores[k, t] = (
                (dice(raw, mask_HW), iou(raw, mask_HW)),
                (dice(box, true_box), iou(box, true_box)),
            )
    return scores


def choose(mean_scores: np.ndarray) -> Calibration:
    """Picks threshold and strategy by mean Dice.

    Args:
        mean_scores: float (T, 2, 2), the mean of `threshold_scores` over all examples.
    """
    best = {name: int(mean_scores[:, s, 0].argmax()) for s, name in enumerate(STRATEGIES)}
    dice = {name: float(mean_scores[t, STRATEGIES.index(name), 0]) for name, t in best.items()}
    strategy = max(STRATEGIES, key=lambda name: dice[name])
    return Calibration(
        strategy=strategy,
        threshold=THRESHOLDS[best[strategy]],
        thresholds={name: THRESHOLDS[t] for name, t in best.items()},
        scores={
            f"{name}_{score}": float(mean_scores[t, STRATEGIES.index(name), n])
            for name, t in best.items()
            for n, score in enumerate(_SCORES)
        },
    )
