"""The place words of prompts: where in a picture "top left" is, and its mirror image."""

from __future__ import annotations

import math
import re

PLACES = (
    "center",
    "left",
    "right",
    "top",
    "bottom",
    "top left",
    "top right",
    "bottom left",
    "bottom right",
    "center left",
    "center right",
    "center top",
    "center bottom",
)
"""The twelve places seen in PIPE's ``object_location``, and "top", which completes them."""

# Offsets of a box centre from the picture's centre, in fractions of the side.
_CENTER_BAND = 1 / 6  # within it a box counts as centred along that axis: the middle third
_NEAR_BAND = 1 / 4  # between the two bands it is "center left", beyond it "left"


def place_of_box(box: tuple[float, float, float, float], *, height: int, width: int) -> str:
    """Names the place of a box by where its centre falls.

    Args:
        box: (left, top, right, bottom) in pixels, right and bottom exclusive.
        height: Picture height in pixels.
        width: Picture width in pixels.

    Returns:
        One of PLACES.
    """
    left, top, right, bottom = box
    dx = (left + right) / 2 / width - 0.5
    dy = (top + bottom) / 2 / height - 0.5
    horizontal = "" if abs(dx) <= _CENTER_BAND else ("left" if dx < 0 else "right")
    vertical = "" if abs(dy) <= _CENTER_BAND else ("top" if dy < 0 else "bottom")
    if horizontal and vertical:
        return f"{vertical} {horizontal}"
    if not horizontal and not vertical:
        return "center"
    offset = max(abs(dx), abs(dy))
    word = horizontal or vertical
    return word if offset > _NEAR_BAND else f"center {word}"


def distance_to_place(
    box: tuple[float, float, float, float], place: str, *, height: float, width: float
) -> float:
    """Measures how far a box's centre is from the region that `place_of_box` gives a name.

    A place of one word says nothing of the other axis, so being off along that one counts half: a thing in
    the top left corner is nearer to being "left" than one in the middle.

    Args:
        box: (left, top, right, bottom), exclusive.
        place: One of PLACES.
        height: Picture height in the box's unit.
        width: Picture width in the box's unit.

    Returns:
        0 inside the region; outside, in fractions of the side. "left" and "right" are half a side apart.
    """
    left, top, right, bottom = box
    words = place.split()
    offsets = ((left + right) / 2 / width - 0.5, (top + bottom) / 2 / height - 0.5)
    distances = []
    for offset, (low, high) in zip(offsets, (("left", "right"), ("top", "bottom")), strict=True):
        if low in words or high in words:
            outwards = offset if high in words else -offset
            begins = _NEAR_BAND if len(words) == 1 else _CENTER_BAND
            ends = _NEAR_BAND if "center" in words else math.inf
            distances.append(max(begins - outwards, outwards - ends, 0.0))
        else:
            distances.append(max(abs(offset) - _CENTER_BAND, 0.0) * (1.0 if place == "center" else 0.5))
    return math.hypot(*distances)


def flip_place(prompt: str) -> str:
    """Swaps left and right in a prompt, as a horizontal flip of its picture does."""
    swap = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda match: swap[match.group()], prompt)
