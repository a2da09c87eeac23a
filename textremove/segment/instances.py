"""Which of the objects that a model found is meant: by the place words, and by singular or plural.

SAM 3, and Grounding DINO with SAM 2, find every "person" in a photo. "person at the left" then means one of
them. No model is needed here: plain functions on what they found.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from lemminflect import getLemma

from textremove.places import PLACES, distance_to_place
from textremove.segment.protocol import Segmentation

_WORDS_FOR_PLACES = {"middle": "center", "centre": "center", "upper": "top", "lower": "bottom"}
_PLACES = {frozenset(place.split()): place for place in PLACES}  # "left top" is "top left"
_BEFORE_PLACE = re.compile(r" (?:at|in|on|to|near) (?:the )?")
_AFTER_PLACE = re.compile(r"(?: (?:side|corner|edge|half|part))?(?: (?:of|in) the (?:photo|picture|image))?$")
_AFTER_HEAD = re.compile(r" (?:with|without|in|of|on|at|from|near|by|behind|under|wearing|holding|that|who) ")

_PLURALS = frozenset({"people", "police", "cattle"})
"""Plurals that are words of their own, to a dictionary."""

REACH = 1 / 6
"""Farther than this from a place's region, in fractions of the side, a thing is not at the place. What stands
in the very middle is thus not "left", which begins a quarter of the side from there."""

_MASK_THRESHOLD = 0.5
_SAME_IOU = 0.5  # two masks that share this much are one object found twice
_INSIDE = 0.8  # a mask this much inside another is a part of it


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One object that a model found.

    Attributes:
        box: (left, top, right, bottom) in fractions of the photo's width and height.
        probability: float32 (h, w) in [0, 1] over the whole photo, at a resolution that all instances of a
            photo share and that need not be the photo's. At full size a hundred masks would fill the memory.
        score: The model's confidence in [0, 1].
    """

    box: tuple[float, float, float, float]
    probability: np.ndarray
    score: float


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a prompt asks for.

    Attributes:
        what: The thing, for the model: "person".
        place: One of PLACES, or "" for anywhere.
        plural: Whether all that fit are meant, and not the one that fits best.
    """

    what: str
    place: str
    plural: bool


def parse_request(prompt: str) -> Request:
    """Takes a prompt apart.

    The place is what follows the last "at the" (or in, on, near) if it is one of PLACES, whatever the order
    of its words, or as people put it otherwise: "on the left side", "in the upper left corner of the photo".
    Other words, as in "cup on the table", stay with the thing: these models were trained on such phrases.

    It is plural if its head noun is: the last word before "with", "in", "of" and the like, so "dogs" of
    "dogs with a ball", "pair" of "pair of scissors". A noun whose plural looks the same is singular ("sheep",
    "scissors", "glasses"): one too few is seen and asked for again, one too many is lost.

    Args:
        prompt: Lower case, as `textremove.removal.clean_prompt` gives it.
    """
    what, place = prompt, ""
    text = _AFTER_PLACE.sub("", prompt)
    for match in _BEFORE_PLACE.finditer(text):
        words = text[match.end() :].replace("-", " ").split()
        named = _PLACES.get(frozenset(_WORDS_FOR_PLACES.get(word, word) for word in words))
        if named:
            what, place = text[: match.start()], named
    return Request(what=what, place=place, plural=_is_plural(what))


def _is_plural(what: str) -> bool:
    head = _AFTER_HEAD.split(what, maxsplit=1)[0].split()[-1]
    return head in _PLURALS or head not in getLemma(head, upos="NOUN")


def distinct(instances: Sequence[Instance]) -> list[Instance]:
    """Keeps one instance for each object, the most confident first.

    Of two masks that share more than half of their union the more confident one stays: the same object, found
    twice. A mask that holds two or more others is a group found beside its members, and goes: its members
    are what can be told apart. An empty mask is nothing.
    """
    ranked = sorted(instances, key=lambda one: -one.score)
    masks = [one.probability.ravel() > _MASK_THRESHOLD for one in ranked]
    kept: list[int] = []
    for index, mask in enumerate(masks):
        if mask.any() and all(_iou(mask, masks[other]) <= _SAME_IOU for other in kept):
            kept.append(index)
    members = {
        index: sum(_share(masks[other], masks[index]) > _INSIDE for other in kept if other != index)
        for index in kept
    }
    return [ranked[index] for index in kept if members[index] < 2]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return np.count_nonzero(part & whole) / np.count_nonzero(part)


def place_fit(box: tuple[float, float, float, float], place: str) -> float:
    """Says how well a box fits a place: 1 in its region, less the farther outside, 0 beyond REACH.

    The region is that of `textremove.places.place_of_box`. It falls like a bell curve, to exp(-2) at REACH: a
    thing a little off is nearly as good, since nobody names places to the pixel, and "left" and "center left"
    are neighbours; one twice as confident but a tenth of the side farther off is worse.

    Args:
        box: (left, top, right, bottom) in fractions of the photo.
        place: One of PLACES, or "" for anywhere, which everything fits.
    """
    if not place:
        return 1.0
    distance = distance_to_place(box, place, height=1.0, width=1.0)
    return math.exp(-2 * (distance / REACH) ** 2) if distance <= REACH else 0.0


def choose(instances: Sequence[Instance], request: Request) -> tuple[list[Instance], float]:
    """Chooses what is asked for.

    Each distinct instance is scored by the model's confidence times `place_fit`. In the singular the best one
    is taken, in the plural all that fit the place, in either case none that does not: never a random one.

    Returns:
        The chosen instances, none when nothing fits, and the best score among them, 0 for none.
    """
    scored = [(one.score * place_fit(one.box, request.place), one) for one in distinct(instances)]
    fitting = sorted(((score, one) for score, one in scored if score > 0), key=lambda pair: -pair[0])
    chosen = fitting if request.plural else fitting[:1]
    return [one for _, one in chosen], chosen[0][0] if chosen else 0.0


def segmentation_from_instances(
    instances: Sequence[Instance], request: Request, *, height: int, width: int
) -> Segmentation:
    """Makes the segmentation of what is asked for, from everything that was found.

    The mask is the objects' pixels, not the box around them. Boxes mend ragged masks (paper section 5.1), and
    these are not ragged; around several objects one box would take what stands between them too.

    Args:
        instances: All that the model found of the thing.
        request: What is asked for.
        height: Photo height in pixels.
        width: Photo width in pixels.
    """
    chosen, score = choose(instances, request)
    mask = np.zeros((height, width), np.uint8)
    if chosen:
        probability = np.maximum.reduce([one.probability for one in chosen])
        # Bilinear on the probabilities, before the threshold: a thresholded mask would show its pixels.
        probability = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        mask[probability > _MASK_THRESHOLD] = 255
    return Segmentation(mask=mask, raw=mask, score=score, found=bool(mask.any()))


class InstanceSegmenter(ABC):
    """A model that finds every object of a kind, as a Segmenter: the prompt says which of them is meant.

    Photos run one by one, so that a mask cannot depend on the batch.
    """

    @abstractmethod
    def instances(self, image: np.ndarray, what: str) -> list[Instance]:
        """Finds all objects of a kind, in no particular order.

        Args:
            image: RGB uint8 (height, width, 3).
            what: A noun phrase: "person".
        """

    def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
        """Segments each photo by its prompt. Shapes as in `Segmenter.segment`."""
        results = []
        for image, prompt in zip(images, prompts, strict=True):
            request = parse_request(prompt)
            height, width = image.shape[:2]
            instances = self.instances(image, request.what)
            results.append(segmentation_from_instances(instances, request, height=height, width=width))
        return results
