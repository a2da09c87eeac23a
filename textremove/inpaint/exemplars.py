"""Rebuilds a filling from patches of the photo itself, so that it is as sharp as what surrounds it.

An inpainter of 128 px knows which colours belong into a hole, but not grass; and what it paints in the middle
of a white sky is never quite white. So its filling is taken for a draft: from coarse to fine, every patch of
the hole is replaced by the patch of the photo that is most like it, and where patches overlap they agree on a
mean (Wexler, Shechtman and Irani 2007, "Space-Time Completion of Video"; from a network's draft as in Yang et
al. 2017, "High-Resolution Image Inpainting using Multi-Scale Neural Patch Synthesis"). What counts at the end
is where each patch came from: pixels are copied from there at the photo's own resolution.

Nearest patches are found exactly, by comparing all with all. What is compared are whole numbers whose sums
stay below 2^24, exact in float32 in whatever order they are added, so that the same hole is rebuilt to the
same pixels by any number of threads.

Legend of axes: H height, W width, C colours, F features of a patch, P every patch of a picture, Q those to
fill, S those to copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from textremove.inpaint.blend import continue_inwards, mean_nearby

FINEST = 128
"""Longer side in pixels of the finest level at which patches are compared."""

COARSEST = 32
"""And, at most, of the coarsest, where a patch spans so much that the large is decided before the small."""

MIN_SOURCES = 50
"""A level with fewer patches to copy is left out."""

_ROUNDS = (2, 4, 8)  # from the finest level to the coarsest: the finer begin with what the coarser found
_DRAFT_WEIGHT = 0.4  # of the draft's colour against the pixels of a patch
_DRAFT_BLUR = 2.0  # a draft is about so sharp; what it is compared with is made so, too
_DETAIL_WEIGHT = 10.0  # of detail too fine for a level: grass has it and so has a dress, the sky has not
_MOST_DETAIL = 100.0  # grey levels; more is alike
_NEAR = 3  # being so many pixels away costs as much as one pixel of the patch being a level off
_INWARDS = 1.3  # a patch counts for less by this factor with every pixel further in the hole
_INVISIBLE = 4.0  # grey levels; up to about so many off, the draft is right: smooth where patches are not
_FLAT = 6.0  # grey levels; ground with about so much detail, finer than the finest level, is half flat
_UNLIKE = 40.0  # grey levels; about so many off, what was found is half the draft's and half its own
_WIDELY = 8.0  # pixels of the finest level: of a mean over so wide an area
_COMPARED_AT_ONCE = 2048  # patches, to bound memory
_COPIED_AT_ONCE = 1_000_000  # pixels, likewise


@dataclass(frozen=True, kw_only=True, eq=False)
class _Level:
    """A hole and its surroundings at one of the sizes.

    Attributes:
        photo_HWC: uint8.
        draft_HWC: uint8.
        hole_HW: bool, what is to be rebuilt.
        detail_HW: float32, how far the photo is from what this size shows of it, in grey levels; in the hole,
            as around it.
        width: Of a patch, in pixels; odd.
    """

    photo_HWC: np.ndarray
    draft_HWC: np.ndarray
    hole_HW: np.ndarray
    detail_HW: np.ndarray
    width: int

    @cached_property
    def sources_S(self) -> Tensor:
        """Numbers, in rows, of the pixels whose patch lies in the photo and out of the hole."""
        whole = cv2.erode(
            (~self.hole_HW).astype(np.uint8), self._square, borderType=cv2.BORDER_CONSTANT, borderValue=0
        )
        return torch.from_numpy(np.flatnonzero(whole))

    @cached_property
    def queries_Q(self) -> Tensor:
        """Numbers, in rows, of the pixels whose patch has some of the hole."""
        return torch.from_numpy(np.flatnonzero(cv2.dilate(self.hole_HW.astype(np.uint8), self._square)))

    @property
    def _square(self) -> np.ndarray:
        return np.ones((self.width, self.width), np.uint8)

    def patches_FP(self, picture_HWC: np.ndarray) -> Tensor:
        """The patch around every pixel, float32 (colours x width x width, pixels), values in [-128, 127]."""
        margin = (self.width // 2,) * 4
        return F.unfold(F.pad(_centred(picture_HWC)[None], margin, mode="replicate"), self.width)[0]

    def features_FP(self, picture_HWC: np.ndarray, colour_HWC: np.ndarray) -> Tensor:
        """What patches are compared by: pixels, the colour around them, detail, and where they are."""
        height, width = self.hole_HW.shape
        blurred = cv2.GaussianBlur(colour_HWC, (0, 0), _DRAFT_BLUR)
        colour_FP = (_centred(blurred) * round(_DRAFT_WEIGHT * self.width)).flatten(1)
        places_FP = torch.from_numpy(np.indices((height, width)) // _NEAR).float().flatten(1)
        detail_HW = np.rint(_DETAIL_WEIGHT * np.minimum(self.detail_HW, _MOST_DETAIL))
        detail_FP = torch.from_numpy(detail_HW).float().flatten()[None]
        return torch.cat([self.patches_FP(picture_HWC), colour_FP, detail_FP, places_FP])

    def vote(self, found_Q: Tensor, weight_Q: Tensor) -> np.ndarray:
        """Puts the patches found in their places: the weighted mean where they overlap, uint8 (H, W, C)."""
        height, width = self.hole_HW.shape
        area, margin = self.width**2, self.width // 2
        weight_P = torch.zeros(height * width).index_copy(0, self.queries_Q, weight_Q)
        patches_FP = torch.zeros(3 * area, height * width)
        patches_FP[:, self.queries_Q] = self.patches_FP(self.photo_HWC)[:, found_Q] * weight_Q
        padded = (height + 2 * margin, width + 2 * margin)
        inner = (..., slice(margin, margin + height), slice(margin, margin + width))
        total_CHW = F.fold(patches_FP, padded, self.width)[inner]
        weight_1HW = F.fold(weight_P.expand(area, -1), padded, self.width)[inner]
        mean_HWC = (total_CHW / weight_1HW.clamp_min(1e-12)).permute(1, 2, 0).numpy() + 128
        return np.clip(np.rint(mean_HWC), 0, 255).astype(np.uint8)


def rebuild(draft: np.ndarray, photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Rebuilds a filling from patches of the photo around it.

    Args:
        draft: RGB uint8 (height, width, 3), filled.
        photo: RGB uint8 (height, width, 3), as it was.
        mask: uint8 (height, width), 255 = filled, or not to be copied for another reason.

    Returns:
        RGB uint8 (height, width, 3). Outside the mask it is the photo, but for what lies so near to the edge
        that a patch there reaches into the hole. The draft itself where there is too little photo to copy.
    """
    sizes = [min(max(mask.shape), FINEST)]
    while sizes[-1] > COARSEST:
        sizes.append(-(-sizes[-1] // 2))
    offsets_HW2: np.ndarray | None = None
    for size, rounds in reversed(list(zip(sizes, _ROUNDS, strict=False))):
        level = _shrunk(draft, photo, mask, size)
        if len(level.sources_S) >= MIN_SOURCES:
            begun = level.draft_HWC if offsets_HW2 is None else copied(level.photo_HWC, offsets_HW2)
            offsets_HW2, mean_HWC = _complete(level, begun, rounds)
            finest = level
    if offsets_HW2 is None:
        return draft
    quilt = copied(photo, offsets_HW2)
    return _settled(_smoothed(quilt, mask, finest.detail_HW, offsets_HW2, mean_HWC), draft, mask)


def copied(photo: np.ndarray, offsets_HW2: np.ndarray) -> np.ndarray:
    """Copies pixels from where offsets, found at a smaller size, say.

    Between the offsets of two neighbours, what both say is mixed; where all say the same, as inside a piece
    of the photo, a pixel is copied as it is.

    Args:
        photo: RGB uint8 (height, width, 3).
        offsets_HW2: int64, of each pixel of the smaller picture, how far down and to the right its source is.
    """
    height, width = photo.shape[:2]
    small_height, small_width = offsets_HW2.shape[:2]
    scale = np.array([height / small_height, width / small_width])
    moved = cv2.dilate((offsets_HW2 != 0).any(axis=2).astype(np.uint8), np.ones((3, 3), np.uint8))
    moved_rows, moved_columns = np.nonzero(
        cv2.resize(moved, (width, height), interpolation=cv2.INTER_NEAREST)
    )
    result = photo.copy()
    for start in range(0, len(moved_rows), _COPIED_AT_ONCE):
        rows = moved_rows[start : start + _COPIED_AT_ONCE]
        columns = moved_columns[start : start + _COPIED_AT_ONCE]
        y, x = (rows + 0.5) / scale[0] - 0.5, (columns + 0.5) / scale[1] - 0.5
        total = np.zeros((len(rows), 3))
        for top, left in product((0, 1), repeat=2):
            row, column = np.floor(y).astype(int) + top, np.floor(x).astype(int) + left
            weight = (1 - np.abs(y - row)) * (1 - np.abs(x - column))
            near = (np.clip(row, 0, small_height - 1), np.clip(column, 0, small_width - 1))
            shift = np.rint(scale * offsets_HW2[near]).astype(int)
            source = (
                np.clip(rows + shift[:, 0], 0, height - 1),
                np.clip(columns + shift[:, 1], 0, width - 1),
            )
            total += weight[:, None] * photo[source]
        result[rows, columns] = np.rint(total)
    return result


def _shrunk(draft: np.ndarray, photo: np.ndarray, mask: np.ndarray, longest: int) -> _Level:
    height, width = mask.shape
    scale = longest / max(mask.shape)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small_photo, small_draft, hole = (
        cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (photo, draft, mask)
    )
    hole_hw = hole > 5  # a cell of which a fiftieth is hole is not to be copied
    return _Level(
        photo_HWC=small_photo,
        draft_HWC=small_draft,
        hole_HW=hole_hw,
        detail_HW=_detail(photo, small_photo, hole_hw),
        width=5 if longest <= COARSEST else 7,
    )


def _detail(photo: np.ndarray, small_photo: np.ndarray, hole_hw: np.ndarray) -> np.ndarray:
    """See `_Level`; float32 (h, w). All nought where there is nothing but hole, or the photo is no larger."""
    (height, width), (h, w) = photo.shape[:2], hole_hw.shape
    off_HW = cv2.absdiff(photo, cv2.resize(small_photo, (width, height))).max(axis=2)
    off_hw = cv2.resize(off_HW, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
    # A cell beside the hole was mixed with what is in it, and says nothing.
    known_hw = cv2.erode((~hole_hw).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    if not known_hw.any():
        return np.zeros_like(off_hw)
    near_hw1, _ = mean_nearby(off_hw[..., None], known_hw, sigma=1.0)
    inside_hw1 = continue_inwards(near_hw1 * known_hw[..., None], known_hw)
    return np.where(known_hw[..., None] > 0, near_hw1, inside_hw1)[..., 0]


def _complete(level: _Level, begun_HWC: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Fills a level's hole with patches of its photo, again and again.

    Returns:
        How far down and to the right each pixel's source is, int64 (height, width, 2), nought outside; and
        the mean of all patches over each pixel, uint8 (height, width, 3).
    """
    height, width = level.hole_HW.shape
    hole_HW1 = level.hole_HW[..., None]
    inside_HW = cv2.distanceTransform(level.hole_HW.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    surety_Q = _INWARDS ** -torch.from_numpy(inside_HW).flatten()[level.queries_Q]
    sources_FS = level.features_FP(level.photo_HWC, level.photo_HWC)[:, level.sources_S]
    draft_HWC = np.where(hole_HW1, level.draft_HWC, level.photo_HWC)
    filled_HWC = np.where(hole_HW1, begun_HWC, level.photo_HWC)
    for _ in range(rounds):
        queries_FQ = level.features_FP(filled_HWC, draft_HWC)[:, level.queries_Q]
        nearest_Q, distance_Q = _nearest(queries_FQ, sources_FS)
        found_Q = level.sources_S[nearest_Q]
        usual = max(float(np.percentile(distance_Q.numpy(), 75)), 1.0)
        weight_Q = surety_Q * torch.exp(-distance_Q / (2 * usual)) + 1e-8
        filled_HWC = np.where(hole_HW1, level.vote(found_Q, weight_Q), level.photo_HWC)
    offsets_HW2 = np.zeros((height, width, 2), np.int64)
    to, source = level.queries_Q.numpy(), found_Q.numpy()
    offsets_HW2.reshape(-1, 2)[to] = np.stack([source // width - to // width, source % width - to % width], 1)
    return offsets_HW2, filled_HWC


def _nearest(queries_FQ: Tensor, sources_FS: Tensor) -> tuple[Tensor, Tensor]:
    """Of each query, which source is nearest (the first of several) and the squared distance to it."""
    square_S = sources_FS.square().sum(0)
    nearest, distances = [], []
    for chunk_FQ in queries_FQ.split(_COMPARED_AT_ONCE, dim=1):
        distance_QS = torch.addmm(square_S, chunk_FQ.T, sources_FS, alpha=-2)
        distance_Q, nearest_Q = distance_QS.min(dim=1)
        nearest.append(nearest_Q)
        distances.append(distance_Q + chunk_FQ.square().sum(0))
    return torch.cat(nearest), torch.cat(distances)


def _smoothed(
    quilt: np.ndarray, mask: np.ndarray, detail_hw: np.ndarray, offsets_hw2: np.ndarray, mean_hwC: np.ndarray
) -> np.ndarray:
    """Takes the edges of the pieces out of flat ground, where they show and there is no detail to lose.

    Args:
        quilt: RGB uint8 (height, width, 3), copied in pieces.
        mask: uint8 (height, width), 255 = hole.
        detail_hw: Of the photo, at the finest level's size.
        offsets_hw2: Of the pieces, as in `copied`.
        mean_hwC: RGB uint8 (h, w, 3), the mean of all patches that overlap a pixel; taken where the pieces
            are from ground without detail.
    """
    height, width = mask.shape
    row_hw, column_hw = np.moveaxis(offsets_hw2, 2, 0) + np.indices(detail_hw.shape)
    copied_hw = cv2.GaussianBlur(detail_hw[row_hw, column_hw], (0, 0), 1.0)
    flatness_HW = cv2.resize(1 / (1 + (copied_hw / _FLAT) ** 4), (width, height))
    mean_HWC = cv2.resize(mean_hwC, (width, height), interpolation=cv2.INTER_CUBIC)
    left, top, hole_width, hole_height = cv2.boundingRect(mask)  # not the whole photo, which may be large
    area = (slice(top, top + hole_height), slice(left, left + hole_width))
    share_HW1 = np.where(mask[area] > 0, flatness_HW[area], 0)[..., None]
    result = quilt.copy()
    result[area] = np.rint(quilt[area] + share_HW1 * (mean_HWC[area].astype(np.float32) - quilt[area]))
    return result


def _settled(rebuilt: np.ndarray, draft: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lets the draft have its say, by how far off its colours are.

    No small patch fits a ramp to the level: where the two hardly differ, the draft's colours are taken. And
    where nothing in the photo is like the draft, what was found is a piece of something else: there it fades,
    if that is so over a wide area, and not where the draft only has a streak.
    """
    left, top, width, height = cv2.boundingRect(mask)  # not the whole photo, which may be large
    area = (slice(top, top + height), slice(left, left + width))
    scale = min(1.0, FINEST / max(mask.shape))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    inside_hw = cv2.resize(mask[area], size, interpolation=cv2.INTER_AREA) / np.float32(255)

    def colours_hwC(picture: np.ndarray) -> np.ndarray:
        small_hwC = cv2.resize(picture[area], size, interpolation=cv2.INTER_AREA)
        return mean_nearby(small_hwC.astype(np.float32), inside_hw)[0]

    off_hwC = colours_hwC(draft) - colours_hwC(rebuilt)
    most_hw1 = np.abs(off_hwC).max(axis=2, keepdims=True)
    shift_HWC = cv2.resize(off_hwC / (1 + np.square(most_hw1 / _INVISIBLE)), (width, height))
    widely_hw1, _ = mean_nearby(most_hw1, inside_hw, sigma=_WIDELY)
    faith_HW = cv2.resize(1 / (1 + (widely_hw1 / _UNLIKE) ** 4), (width, height))
    settled_HWC = draft[area] + faith_HW[..., None] * (rebuilt[area] + shift_HWC - draft[area])
    result = rebuilt.copy()
    inside_HW1 = mask[area][..., None] > 0
    result[area] = np.where(inside_HW1, np.clip(np.rint(settled_HWC), 0, 255), rebuilt[area])
    return result


def _centred(picture_HWC: np.ndarray) -> Tensor:
    """uint8 (H, W, C) to float32 (C, H, W) in [-128, 127]."""
    return torch.from_numpy(picture_HWC).permute(2, 0, 1).float() - 128
