"""Fillings to look at, as the paper's Figures 3 and 4: input, mask, base, adapter, ours, truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from textremove.groups import HUMAN
from textremove.report.figures import overlay_mask, shrink
from textremove.report.page import Picture, PictureRow
from textremove.scores import Row, extremes

SHOWN = ("base", "lora", "ours")
"""Variants on the sheet, from left to right, as far as they were scored."""

_OF_A_KIND = 2
_PICTURE_SIDE = 260  # pixels


@dataclass(frozen=True, kw_only=True)
class FillingCase:
    """One example to look at; pictures are RGB uint8 (height, width, 3).

    Attributes:
        kind: Why it was chosen: "best", "median", "worst", "still found" or "people".
        prompt: What was removed.
        example_id: Which one it is.
        image: The input.
        mask: uint8 (height, width), the true mask.
        truth: The photo without the object.
        filled: What each variant made of it.
        scores: The row of scores of each variant.
    """

    kind: str
    prompt: str
    example_id: str
    image: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    filled: Mapping[str, np.ndarray]
    scores: Mapping[str, Row]


def on_sheet(names: Sequence[str]) -> list[str]:
    """Which variants are shown: those of SHOWN that are there, else the first few."""
    return [name for name in SHOWN if name in names] or list(names)[: len(SHOWN)]


def cases_to_show(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Chooses examples by the scores of the last variant on the sheet; none without rows.

    Args:
        rows: Of all variants.

    Returns:
        Rows of that variant by kind: the best, median and worst PSNR, removals after which the object is
        still found, and people.
    """
    if not rows:
        return {}
    last = on_sheet(list(dict.fromkeys(row["inpainter"] for row in rows)))[-1]
    mine = [row for row in rows if row["inpainter"] == last]
    chosen = extremes(mine, score="psnr", count=_OF_A_KIND)
    for kind, which in (
        ("still found", [row for row in mine if row["success"] is False]),
        ("people", [row for row in mine if row["class_group"] == HUMAN]),
    ):
        taken = {row["example_id"] for group in chosen.values() for row in group}
        left = [row for row in which if row["example_id"] not in taken]
        chosen[kind] = extremes(left, score="psnr", count=_OF_A_KIND)["median"] if left else []
    return chosen


def filling_case_row(case: FillingCase) -> PictureRow:
    """Puts one case side by side; under each filling its PSNR in the mask, and whether it is still found."""
    pictures = [_picture(case.image, "input"), _picture(overlay_mask(case.image, case.mask), "mask")]
    for name in on_sheet(list(case.filled)):
        row = case.scores[name]
        fate = {True: ", gone", False: ", still found", None: ""}[row["success"]]
        pictures.append(_picture(case.filled[name], f"{name}: {row['psnr']:.1f} dB{fate}"))
    pictures.append(_picture(case.truth, "truth"))
    return PictureRow(
        title=f"{case.kind.capitalize()}: “{case.prompt}” ({case.example_id})", pictures=pictures
    )


def _picture(image: np.ndarray, caption: str) -> Picture:
    return Picture(image=shrink(image, _PICTURE_SIDE), caption=caption, format="jpeg")
