"""Filling, and looking whether it is really gone: the steps, without the models that take them.

An inpainter sometimes paints a new object where the old one was. So the result is segmented again with the
same prompt, and when something is found where the object was, a larger hole is filled with other seeds.

The steps are a generator. It yields what is to be filled or looked at, is sent the answers, and returns what
became of it. One process runs it with its models, a batch runs many side by side, and a server sends each
call to another machine: the algorithm, and so the pixels, are the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from textremove.errors import ConfigError
from textremove.inpaint.masks import dilate
from textremove.segment.protocol import Segmentation

MAX_ATTEMPTS = 8
MAX_SAMPLES = 8

OVERLAP = 0.5
"""The object counts as found again when this share of the hole, or of what was found, lies in the other."""

SPECK = 0.05
"""What is found again counts from this share of the hole's area on."""

_SEEDS = 2**63  # seeds travel as signed 64-bit numbers


@dataclass(frozen=True, kw_only=True)
class RemovalConfig:
    """How hard to try.

    Attributes:
        verify: Whether the result is segmented again with the same prompt, and filled again when the object
            is still found where it was. Without a prompt there is nothing to verify.
        attempts: How often it is filled at most.
        samples: Fillings with different seeds in each attempt, of which the best is kept.
        growth: How far the mask is grown with each further attempt, as a share of the root of its area.

    Raises:
        ConfigError: A number out of range.
    """

    verify: bool = True
    attempts: int = 3
    samples: int = 1
    growth: float = 0.15

    def __post_init__(self) -> None:
        for name, most in (("attempts", MAX_ATTEMPTS), ("samples", MAX_SAMPLES)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"--{name} must lie in [1, {most}], not {getattr(self, name)}")
        if not 0 <= self.growth <= 1:
            raise ConfigError(f"--growth must lie in [0, 1], not {self.growth}")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a removal.

    Attributes:
        growth: Pixels that the mask was grown by, before the growth that every filling gives it.
        seeds: One for each filling.
        scores: Of each filling, the confidence with which the object was found again where it was, 0.0 when
            it was not; empty when nobody looked.
    """

    growth: int
    seeds: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What became of a hole.

    Attributes:
        image: RGB uint8 (height, width, 3), the best filling.
        seed: Its seed.
        verified: Whether the object is no longer found where it was; None when nobody looked.
        verify_score: The confidence in [0, 1] with which it still is, 0.0 when verified; None likewise.
        attempts: All of them, in order.
        seconds: Time taken by "inpaint", and by "verify" when somebody looked.
    """

    image: np.ndarray
    seed: int
    verified: bool | None
    verify_score: float | None
    attempts: tuple[Attempt, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class FillCall:
    """Asks for a filling: RGB uint8 (height, width, 3), as the photo.

    Attributes:
        image: RGB uint8 (height, width, 3).
        mask: uint8 (height, width), 255 = fill.
        seed: Of the filling.
        adapter: Which of the inpainter's adapters; its own choice when None.
    """

    image: np.ndarray
    mask: np.ndarray
    seed: int
    adapter: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class LookCall:
    """Asks for a Segmentation of the photo by the prompt.

    Attributes:
        image: RGB uint8 (height, width, 3).
        prompt: Refined.
    """

    image: np.ndarray
    prompt: str


Call = FillCall | LookCall
Steps = Generator[Sequence[Call], list[Any], Filled]


def fill_in_attempts(
    image: np.ndarray,
    mask: np.ndarray,
    prompt: str | None,
    *,
    seed: int,
    config: RemovalConfig,
    adapter: str | None = None,
) -> Steps:
    """Fills a hole until the object is no longer found, at most as often as allowed; keeps the best.

    The first filling of the first attempt is that of `seed` and the mask as it is, so that nothing changes
    where nothing goes wrong.

    Args:
        image: RGB uint8 (height, width, 3).
        mask: uint8 (height, width), 255 = remove, not empty.
        prompt: Refined; None when there is none, and so nothing to verify.
        seed: Of the first filling; the others' are the numbers that follow.
        config: How hard to try.
        adapter: See FillCall.

    Yields:
        Calls to be answered in order: images for FillCall, Segmentations for LookCall.

    Returns:
        What became of it.
    """
    verify = config.verify and prompt is not None
    root_of_area = math.sqrt(np.count_nonzero(mask))
    seconds = {"inpaint": 0.0} | ({"verify": 0.0} if verify else {})
    attempts: list[Attempt] = []
    best: tuple[float, np.ndarray, int] | None = None
    for number in range(config.attempts if verify else 1):
        growth = round(number * config.growth * root_of_area)
        hole = dilate(mask, growth)
        first = seed + number * config.samples
        seeds = [(first + k) % _SEEDS for k in range(config.samples)]
        started = time.perf_counter()
        images = yield [FillCall(image=image, mask=hole, seed=s, adapter=adapter) for s in seeds]
        seconds["inpaint"] += time.perf_counter() - started
        scores: list[float] = []
        if verify and prompt is not None:
            started = time.perf_counter()
            seen = yield [LookCall(image=filled, prompt=prompt) for filled in images]
            seconds["verify"] += time.perf_counter() - started
            scores = [still_there(segmentation, hole) for segmentation in seen]
        attempts.append(Attempt(growth=growth, seeds=tuple(seeds), scores=tuple(scores)))
        least = min(scores, default=0.0)
        if best is None or least < best[0]:
            candidates = [k for k in range(len(images)) if not scores or scores[k] == least]
            chosen = candidates[most_typical([images[k] for k in candidates], hole)]
            best = (least, images[chosen], seeds[chosen])
        if not least:
            break
    assert best is not None
    return Filled(
        image=best[1],
        seed=best[2],
        verified=not best[0] if verify else None,
        verify_score=best[0] if verify else None,
        attempts=tuple(attempts),
        seconds=seconds,
    )


def advance(steps: Steps, answers: list[Any] | None) -> Sequence[Call] | Filled:
    """Takes steps on to their next calls, or to their end. The first time, the answers are None."""
    try:
        return steps.send(answers)  # type: ignore[arg-type]  # what starts a generator is no answer
    except StopIteration as done:
        filled: Filled = done.value
        return filled


def still_there(seen: Segmentation, hole: np.ndarray) -> float:
    """Says how sure a segmenter is that the object is still where it was.

    It is when any connected part of what is found, no mere speck, overlaps the hole by half of the smaller of
    both. A smaller object painted into the hole counts, and so does one that spills over it. A twin elsewhere
    in the picture does not, though it is rightly found, nor does a neighbour that the hole only grazes.

    Args:
        seen: What the prompt finds in the filled picture.
        hole: uint8 (height, width), 255 = was filled, not empty.

    Returns:
        The segmenter's score, at least a hair above 0; 0.0 when nothing is found there.
    """
    if not seen.found:
        return 0.0
    inside = hole > 0
    area = np.count_nonzero(inside)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((seen.raw > 0).astype(np.uint8))
    sizes = stats[:, cv2.CC_STAT_AREA]
    overlaps = np.bincount(labels[inside], minlength=len(sizes))
    counts = (sizes >= SPECK * area) & (overlaps >= OVERLAP * np.minimum(sizes, area))
    counts[0] = False  # the background
    return max(float(seen.score), 1e-6) if counts.any() else 0.0


def most_typical(images: Sequence[np.ndarray], hole: np.ndarray) -> int:
    """Index of the filling that is nearest to all others: the one that invents the least. Of two, the first.

    Args:
        images: RGB uint8 (height, width, 3), fillings of one hole.
        hole: uint8 (height, width), 255 = was filled.
    """
    inside = hole > 0
    # The sum of squared distances to all others is least where that to their mean is.
    mean_NC = sum(image[inside].astype(np.float32) for image in images) / np.float32(len(images))
    return int(np.argmin([np.square(image[inside] - mean_NC).mean() for image in images]))
