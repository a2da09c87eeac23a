"""What examples are grouped by when scores are broken down: people or not, place word, size."""

from __future__ import annotations

import re

from textremove.places import PLACES

HUMAN, OTHER = "human", "not human"
HUMAN_WORDS = (
    "person", "people", "human", "man", "woman", "boy", "girl", "child", "kid", "baby", "toddler", "infant",
    "lady", "gentleman", "guy", "adult", "teenager", "pedestrian", "crowd", "couple", "family", "bride",
    "groom", "skier", "snowboarder", "surfer", "skateboarder", "cyclist", "athlete",
)  # fmt: skip
"""A class counts as human when its main word is one of these, in the singular or the plural."""

SMALL, MEDIUM, LARGE = "small", "medium", "large"
SMALL_BELOW, LARGE_FROM = 0.03, 0.10
"""Shares of the picture. COCO calls an object large from 96 x 96 pixels on, 3% of its 640 x 480; below its
small, 0.3%, hardly anything is worth removing, so this scale is set one step higher."""

SIMPLE, COMPOUND = "simple", "compound"

NO_PLACE, OTHER_PLACE = "no place named", "other words"

GROUPS = {
    "class_group": (HUMAN, OTHER),
    "size_group": (SMALL, MEDIUM, LARGE),
    "place_group": (*PLACES, OTHER_PLACE, NO_PLACE),
}
"""Column of a row of scores to the values it can have, in reading order."""

FILLING_GROUPS = {
    "class_group": GROUPS["class_group"],
    "shape_group": (SIMPLE, COMPOUND),
    "size_group": GROUPS["size_group"],
}
"""Likewise for fillings. Things of procedural scenes are simple, or compound: of parts in many colours."""

_IRREGULAR = {"men": "man", "women": "woman", "children": "child", "gentlemen": "gentleman"}
# What follows says more about the thing, and is not the thing: "man with a dog", "dog near a man".
_THING_ENDS = re.compile(
    r"\b(?:with|without|in|on|at|by|under|behind|near|who|wearing|holding|riding|sitting|standing|walking)\b"
)


def class_group(object_class: str) -> str:
    """HUMAN or OTHER by the main word, the last before what only describes: "baby carriage" is no baby."""
    thing = _THING_ENDS.split(object_class.lower(), maxsplit=1)[0]
    words = re.findall(r"[^\W\d_]+", thing)
    if not words:
        return OTHER
    word = _IRREGULAR.get(words[-1], words[-1])
    singulars = {word, word.removesuffix("s"), re.sub("ies$", "y", word)}
    return HUMAN if singulars & set(HUMAN_WORDS) else OTHER


def size_group(mask_fraction: float) -> str:
    """SMALL, MEDIUM or LARGE by the share of the picture that the true mask covers, in [0, 1]."""
    if mask_fraction < SMALL_BELOW:
        return SMALL
    return MEDIUM if mask_fraction < LARGE_FROM else LARGE


def place_group(place: str) -> str:
    """The place words themselves when they are of `PLACES`."""
    if place in PLACES:
        return place
    return OTHER_PLACE if place else NO_PLACE
