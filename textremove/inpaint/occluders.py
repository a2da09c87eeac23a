"""What stands in front of the object that is to go: it is no ground to continue behind itself.

Where a woman holds an umbrella behind her, the hole reaches around her head, and an inpainter goes on into it
with her hair, as if the sky were hers. What is in front of an object cuts a bay into its outline, or an
island. So what lies in the gaps between a hole and its convex hull is suspected: it is first filled as well,
from what lies around the hull. Where the photo is far from that, something stands there that does not belong
to the ground, and is hidden when the hole itself is filled; where it is near, it is ground seen through a
gap, as the grass between a zebra's legs, and of use.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from textremove.inpaint.blend import match_surroundings, mean_nearby
from textremove.inpaint.masks import dilate
from textremove.inpaint.protocol import Inpainter

_LEAST_GAPS = 0.02  # of a hole's area: where there are fewer gaps nobody looks into them
_LEAST_PARTS = 0.06  # likewise, of what stands in them: a bit of a shadow is better gone on with
_SIDE = 128  # pixels; larger squares are looked at in this size
_SURELY = 60.0  # grey levels; what is so far off from the ground is no ground
_PERHAPS = 20.0  # and what hangs together with it is none from here on
_GROWTH = 0.05  # of the square's side: the rim of what stands there belongs to it
_GRABCUT_ROUNDS = 5
_LEAST_GROUND = 0.3  # of the square: so much must be left to be continued
_MARGIN = np.ones((5, 5), np.uint8)  # in the small size: across thin necks, and over slivers of an edge


def hide_occluders(
    inpainter: Inpainter,
    squares: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    seeds: Sequence[int],
) -> list[np.ndarray]:
    """Adds to each hole what stands in front of it.

    Args:
        inpainter: Fills the hulls; not called where no hole has gaps.
        squares: RGB uint8 (height, width, 3).
        masks: uint8 (height, width), 255 = hole, each the size of its square.
        seeds: One random seed per square.

    Returns:
        uint8 (height, width) each, 255 = hole or occluder; the very mask where there is no occluder.
    """
    hulls = {k: hull for k, mask in enumerate(masks) if (hull := _hull(mask)) is not None}
    if not hulls:
        return list(masks)
    grounds = inpainter.inpaint([squares[k] for k in hulls], list(hulls.values()), [seeds[k] for k in hulls])
    result = list(masks)
    for (k, hull), ground in zip(hulls.items(), grounds, strict=True):
        matched = match_surroundings(ground, squares[k], hull)
        result[k] = _with_things_in_front(matched, squares[k], masks[k], hull)
    return result


def _hull(mask: np.ndarray) -> np.ndarray | None:
    """The convex hulls of a hole's connected parts: uint8, 255 inside; None where that is hardly more."""
    hole = (mask > 0).astype(np.uint8)
    outlines, _ = cv2.findContours(hole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = mask.copy()
    for outline in outlines:
        cv2.fillConvexPoly(hull, cv2.convexHull(outline), 255)
    return hull if _is_share((hull > 0) & (mask == 0), mask, _LEAST_GAPS) else None


def _with_things_in_front(
    ground: np.ndarray, photo: np.ndarray, mask: np.ndarray, hull: np.ndarray
) -> np.ndarray:
    """Adds to a hole the things that reach into its gaps; ground is the photo with the hull filled."""
    height, width = mask.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    ground_hwC, photo_hwC, mask_hw, hull_hw = (
        cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (ground, photo, mask, hull)
    )
    parts_hw = _unlike_the_ground(ground_hwC, photo_hwC, (hull_hw > 0) & (mask_hw == 0))
    if not _is_share(parts_hw, mask_hw, _LEAST_PARTS):
        return mask
    things_hw = cv2.dilate(_whole(parts_hw, photo_hwC, mask_hw > 0).astype(np.uint8), _MARGIN)
    things = cv2.resize(things_hw, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.where(things > 0, 255, mask).astype(np.uint8)


def _unlike_the_ground(ground_hwC: np.ndarray, photo_hwC: np.ndarray, gaps_hw: np.ndarray) -> np.ndarray:
    """Where in the gaps something stands, bool (h, w)."""
    off_hwC, _ = mean_nearby(photo_hwC.astype(np.float32) - ground_hwC, gaps_hw.astype(np.float32))
    off_hw = np.where(gaps_hw, np.abs(off_hwC).max(axis=2), 0)
    _, labels_hw = cv2.connectedComponents((off_hw > _PERHAPS).astype(np.uint8))
    surely_hw = np.isin(labels_hw, labels_hw[off_hw > _SURELY])
    grown_hw = dilate(surely_hw.astype(np.uint8) * 255, round(_GROWTH * max(gaps_hw.shape))) > 0
    return grown_hw & gaps_hw


def _whole(parts_hw: np.ndarray, photo_hwC: np.ndarray, hole_hw: np.ndarray) -> np.ndarray:
    """The things that some parts are of, bool (h, w): a woman whose head is all that the umbrella's hull has.

    By GrabCut (Rother, Kolmogorov and Blake 2004). Where that leaves too little ground, the parts themselves.
    """
    rest_hw = ~(hole_hw | parts_hw)
    if not rest_hw.any():
        return parts_hw
    labels_hw = np.where(hole_hw, cv2.GC_BGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels_hw[parts_hw] = cv2.GC_FGD
    # The object that is to go says nothing of what is in front and what behind.
    usual_C = np.median(photo_hwC[rest_hw], axis=0)
    picture_hwC = np.where(hole_hw[..., None], usual_C, photo_hwC).astype(np.uint8)
    cv2.setRNGSeed(0)  # it begins with clusters drawn at random
    colours = (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.grabCut(picture_hwC, labels_hw, None, *colours, _GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    things_hw = (labels_hw == cv2.GC_FGD) | (labels_hw == cv2.GC_PR_FGD)
    _, numbers_hw = cv2.connectedComponents(cv2.dilate(things_hw.astype(np.uint8), _MARGIN))
    things_hw &= np.isin(numbers_hw, numbers_hw[parts_hw])
    ground_hw = ~(things_hw | hole_hw)
    return things_hw if np.count_nonzero(ground_hw) >= _LEAST_GROUND * ground_hw.size else parts_hw


def _is_share(part: np.ndarray, mask: np.ndarray, least: float) -> bool:
    return bool(part.any() and np.count_nonzero(part) >= least * np.count_nonzero(mask))
