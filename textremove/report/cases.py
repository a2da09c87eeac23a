"""Examples to look at: what was asked for, what is true, and what each segmenter found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textremove.report.figures import outline_box, overlay_mask, shrink
from textremove.report.page import Picture, PictureRow
from textremove.segment.masks import bounding_box, box_mask
from textremove.segment.metrics import dice

_PICTURE_SIDE = 260  # pixels
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue, ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class Case:
    """One example to look at; pictures are RGB uint8 (height, width, 3), masks uint8 (height, width).

    Attributes:
        kind: Why it was chosen: "best", "median" or "worst".
        prompt: What was asked for.
        example_id: Which one it is.
        image: The input.
        truth: The true mask.
        found: The pixel mask of each segmenter; all zero where nothing was found.
    """

    kind: str
    prompt: str
    example_id: str
    image: np.ndarray
    truth: np.ndarray
    found: Mapping[str, np.ndarray]


def case_row(case: Case) -> PictureRow:
    """Puts one case side by side: input, true mask, and what each segmenter found."""
    pictures = [
        _picture(case.image, "input"),
        _picture(_masked(case.image, case.truth), "truth"),
    ]
    for name, mask in case.found.items():
        scores = f"{dice(box_mask(mask), box_mask(case.truth)):.3f} / {dice(mask, case.truth):.3f}"
        caption = f"{name}: {scores}" if mask.any() else f"{name}: nothing found"
        pictures.append(_picture(_masked(case.image, mask), caption))
    return PictureRow(
        title=f"{case.kind.capitalize()}: “{case.prompt}” ({case.example_id})", pictures=pictures
    )


def _masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Tints the mask on a grey copy, where it is seen whatever colours the photo has, and frames its box."""
    grey = np.repeat((image @ _LUMA).astype(np.uint8)[..., None], 3, axis=2)
    box = bounding_box(mask)
    return grey if box is None else outline_box(overlay_mask(grey, mask), box)


def _picture(image: np.ndarray, caption: str) -> Picture:
    return Picture(image=shrink(image, _PICTURE_SIDE), caption=caption, format="jpeg")
