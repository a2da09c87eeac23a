"""Parts of a mask that lie far apart: each is filled in a square of its own, at a better resolution.

Parts near each other stay together: what is in one's surroundings is to go as well, and one square costs
half of two.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from textremove.inpaint.window import Box, choose_window

MAX_PARTS = 8
"""Squares for one photo at most, since each costs as much as a removal; the nearest parts share one, then."""

_CELLS = 64  # of the grid on which parts are told apart: fine enough for "far", and soon searched
_TOO_MANY = 64  # this many parts are a texture or a ragged mask, and no objects


def far_parts(mask: np.ndarray, *, resolution: int, context: float) -> list[np.ndarray]:
    """Splits a mask into parts that are better filled apart.

    Two parts stay together when one reaches into the other's surroundings, or when the square around both
    is no larger than the larger of their own.

    Args:
        mask: uint8 (height, width), not empty.
        resolution: The model's side in pixels.
        context: Side of a square over the larger side of its hole's box.

    Returns:
        Masks that add up to the one given; the mask itself when it is all one.
    """
    labels_HW, boxes = _touching_parts(mask)
    if not 1 < len(boxes) <= _TOO_MANY:
        return [mask]
    groups = [frozenset([label]) for label in range(len(boxes))]
    while pair := _next_pair(groups, boxes, mask.shape, resolution, context):
        groups = [group for group in groups if group not in pair] + [pair[0] | pair[1]]
    if len(groups) == 1:
        return [mask]
    groups.sort(key=min)
    parts = [np.isin(labels_HW, [label + 1 for label in group]) & (mask > 0) for group in groups]
    return [np.where(part, 255, 0).astype(np.uint8) for part in parts]


def _touching_parts(mask: np.ndarray) -> tuple[np.ndarray, list[Box]]:
    """Labels (from 1) of what hangs together on a coarse grid, int32 (height, width), and their boxes."""
    height, width = mask.shape
    cell = max(1, -(-max(height, width) // _CELLS))
    padded = np.pad(mask > 0, ((0, -height % cell), (0, -width % cell)))
    coarse_hw = padded.reshape(padded.shape[0] // cell, cell, -1, cell).any(axis=(1, 3)).astype(np.uint8)
    count, labels_hw, stats, _ = cv2.connectedComponentsWithStats(coarse_hw)
    labels_HW = labels_hw.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    boxes = []
    for label in range(1, min(count, _TOO_MANY + 2)):
        x, y, wide, high = (int(value) * cell for value in stats[label, : cv2.CC_STAT_AREA])
        near = np.s_[y : y + high, x : x + wide]
        left, top, wide, high = cv2.boundingRect(
            ((labels_HW[near] == label) & (mask[near] > 0)).astype(np.uint8)
        )
        boxes.append((x + left, y + top, x + left + wide, y + top + high))
    return labels_HW, boxes


def _next_pair(
    groups: list[frozenset[int]],
    boxes: list[Box],
    shape: tuple[int, ...],
    resolution: int,
    context: float,
) -> tuple[frozenset[int], frozenset[int]] | None:
    """Two groups to put together; None when all are better apart."""
    around = {group: _around([boxes[label] for label in group]) for group in groups}
    pairs = list(itertools.combinations(groups, 2))
    for first, second in pairs:
        one, other = around[first], around[second]
        if _reaches(one, other, context) or _reaches(other, one, context):
            return first, second
        sides = [_side(box, shape, resolution, context) for box in (one, other, _around([one, other]))]
        if sides[2] <= max(sides[:2]):
            return first, second
    if len(groups) <= MAX_PARTS:
        return None
    return min(pairs, key=lambda pair: _side(_around([around[p] for p in pair]), shape, resolution, context))


def _around(boxes: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _reaches(box: Box, other: Box, context: float) -> bool:
    """Whether `other` reaches into the surroundings that a box is filled from."""
    left, top, right, bottom = box
    margin = (context - 1) / 2 * max(right - left, bottom - top)
    return (
        other[0] < right + margin
        and other[2] > left - margin
        and other[1] < bottom + margin
        and other[3] > top - margin
    )


def _side(box: Box, shape: tuple[int, ...], resolution: int, context: float) -> int:
    return choose_window(box, shape, resolution=resolution, context=context).side
