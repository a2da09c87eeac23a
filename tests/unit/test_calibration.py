from __future__ import annotations

import numpy as np
import pytest

from textremove.segment.calibration import THRESHOLDS, choose, threshold_scores
from textremove.segment.masks import box_mask, pixel_mask
from textremove.segment.metrics import dice, iou


def test_scores_equal_the_plain_metrics_at_every_threshold() -> None:
    rng = np.random.default_rng(0)
    probability_BHW = rng.random((6, 12, 9)) ** 3
    mask_BHW = np.where(rng.random((6, 12, 9)) > 0.8, 255, 0).astype(np.uint8)
    mask_BHW[4], mask_BHW[5], probability_BHW[5] = 0, 0, 0.0  # nothing there; and nothing there or found
    scores = threshold_scores(probability_BHW, mask_BHW)
    for k, (probability_HW, mask_HW) in enumerate(zip(probability_BHW, mask_BHW, strict=True)):
        for t, threshold in enumerate(THRESHOLDS):
            raw = pixel_mask(probability_HW, threshold)
            box, true_box = box_mask(raw), box_mask(mask_HW)
            expected = [[dice(raw, mask_HW), iou(raw, mask_HW)], [dice(box, true_box), iou(box, true_box)]]
            assert scores[k, t] == pytest.approx(np.array(expected))


def test_choice_takes_each_strategys_best_threshold_and_the_better_strategy() -> None:
    means = np.zeros((len(THRESHOLDS), 2, 2))
    means[3, 0], means[7, 1] = (0.6, 0.5), (0.8, 0.7)
    chosen = choose(means)
    assert (chosen.strategy, chosen.threshold) == ("box", THRESHOLDS[7])
    assert chosen.thresholds == {"raw": THRESHOLDS[3], "box": THRESHOLDS[7]}
    assert chosen.scores == {"raw_dice": 0.6, "raw_iou": 0.5, "box_dice": 0.8, "box_iou": 0.7}
