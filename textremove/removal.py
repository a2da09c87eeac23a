"""Removing what a prompt names: segment, fill, look again. One process, no Ray.

Batch and Serve run these same functions and the same steps, so a removal is the same pixels in all three.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textremove.attempts import (
    Attempt,
    Call,
    FillCall,
    Filled,
    RemovalConfig,
    Steps,
    advance,
    fill_in_attempts,
)
from textremove.errors import ConfigError, PromptError
from textremove.inpaint.blend import match_surroundings
from textremove.inpaint.crop import FillConfig, also_hide, cut_image, cut_mask, open_holes, paste
from textremove.inpaint.exemplars import rebuild
from textremove.inpaint.occluders import hide_occluders
from textremove.inpaint.protocol import Inpainter
from textremove.inpaint.window import Window
from textremove.segment.protocol import Segmentation, Segmenter

_COMMAND = re.compile(r"^(?:please )?(?:remove|erase|delete) ")
_ARTICLE = re.compile(r"^(?:(?:an?|the|some) )+")


def clean_prompt(prompt: str) -> str:
    """Brings what a person typed into the form that models are trained on.

    Lower case, single spaces, no leading "remove" or article: "Remove the Ball at the left." becomes
    "ball at the left".

    Raises:
        PromptError: Nothing that names an object is left.
    """
    text = " ".join(prompt.lower().split()).strip(" .,;:!?\"'")
    text = _ARTICLE.sub("", _COMMAND.sub("", text + " ")).strip()
    if not any(character.isalnum() for character in text):
        raise PromptError('the prompt is empty; name what to remove, such as "person at the left"')
    return text


def prompt_to_verify(prompt: str) -> str | None:
    """The refined prompt, or None when it names nothing that could be looked for again."""
    try:
        return clean_prompt(prompt)
    except PromptError:
        return None


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What became of one removal.

    Attributes:
        image: RGB uint8 (height, width, 3). The photo itself when nothing was found.
        mask: uint8 (height, width), 255 = asked to be removed, before it is grown for filling.
        found: Whether there was anything to remove.
        score: The segmenter's confidence in [0, 1]; 1.0 for a mask given by the caller.
        kept_seed: Seed of the filling that was kept.
        verified: Whether the prompt no longer finds the object where it was; None when nobody looked.
        verify_score: The confidence in [0, 1] with which it still does, 0.0 when verified; None likewise.
        attempts: What was done: the fillings, in order.
        seconds: Time taken by "segment", "inpaint" and "verify".
    """

    image: np.ndarray
    mask: np.ndarray
    found: bool
    score: float
    seconds: dict[str, float]
    kept_seed: int = 0
    verified: bool | None = None
    verify_score: float | None = None
    attempts: tuple[Attempt, ...] = ()


def removal_of(segmentation: Segmentation, filled: Filled, *, segment_seconds: float) -> Removal:
    """Puts together what was found and what became of the hole."""
    return Removal(
        image=filled.image,
        mask=segmentation.mask,
        found=True,
        score=segmentation.score,
        seconds={"segment": segment_seconds} | filled.seconds,
        kept_seed=filled.seed,
        verified=filled.verified,
        verify_score=filled.verify_score,
        attempts=filled.attempts,
    )


def fill_holes(
    inpainter: Inpainter,
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    seeds: Sequence[int],
    config: FillConfig = FillConfig(),
) -> list[np.ndarray]:
    """Fills the masked part of photos of any size.

    Each hole is cut out in a square with context, filled at the inpainter's resolution (at the photo's own
    where that is less and the inpainter takes any), matched in colour to its surroundings and pasted back
    with a feathered edge; parts of a mask that lie far apart each in a square of their own. A filling without
    texture is rebuilt from patches of the photo, and what stands in front of the object is no part of what is
    continued. Outside the feathered mask every pixel is the input's, bit
    for bit.

    Args:
        inpainter: Fills the squares.
        images: RGB uint8 (height, width, 3); sizes may differ.
        masks: uint8 (height, width), 255 = remove, each the size of its image.
        seeds: One random seed per image.
        config: How holes are cut and pasted.

    Returns:
        One image each, RGB uint8 of the input's size; with an empty mask, an equal copy.

    Raises:
        ConfigError: A mask is not the size of its image.
    """
    for image, mask in zip(images, masks, strict=True):
        if mask.shape != image.shape[:2]:
            raise ConfigError(
                f"the mask is {mask.shape[1]}x{mask.shape[0]} pixels, "
                f"the image {image.shape[1]}x{image.shape[0]}; they must be the same size"
            )
    size = inpainter.resolution
    holes = [
        (k, hole)
        for k, mask in enumerate(masks)
        if mask.any()
        for hole in open_holes(mask, resolution=size, config=config)
    ]

    def side(window: Window) -> int:
        return min(size, window.side) if inpainter.multiple == 1 else size

    squares = [cut_image(images[k], hole.window, side(hole.window)) for k, hole in holes]
    square_masks = [cut_mask(hole.hidden, hole.window, side(hole.window)) for _, hole in holes]
    square_seeds = [seeds[k] for k, _ in holes]
    if config.hides_occluders(inpainter):
        whole = hide_occluders(inpainter, squares, square_masks, square_seeds)
        holes = [
            (k, hole if mask is before else also_hide(hole, mask))
            for (k, hole), before, mask in zip(holes, square_masks, whole, strict=True)
        ]
        square_masks = whole
    filled = inpainter.inpaint(squares, square_masks, square_seeds)
    if config.match_colours:
        filled = list(map(match_surroundings, filled, squares, square_masks))
    results = [image.copy() for image in images]
    finish = rebuild if config.rebuilds(inpainter) else None
    for (k, hole), square in zip(holes, filled, strict=True):
        paste(results[k], square, hole, finish=finish)
    return results


def answer_calls(
    calls: Sequence[Call], segmenter: Segmenter | None, inpainter: Inpainter, config: FillConfig
) -> list[Any]:
    """Answers what `fill_in_attempts` asks for with models of this process, many at a time.

    Args:
        calls: Of any number of removals.
        segmenter: None is enough where nothing is verified.
        inpainter: Answers the calls for fillings, those for one adapter together.
        config: How holes are cut and pasted.
    """
    answers: dict[int, Any] = {}
    fills = {k: call for k, call in enumerate(calls) if isinstance(call, FillCall)}
    for adapter in dict.fromkeys(call.adapter for call in fills.values()):
        mine = {k: call for k, call in fills.items() if call.adapter == adapter}
        images, masks = [call.image for call in mine.values()], [call.mask for call in mine.values()]
        adapted = inpainter if adapter is None else inpainter.using(adapter)
        filled = fill_holes(adapted, images, masks, [call.seed for call in mine.values()], config)
        answers |= dict(zip(mine, filled, strict=True))
    looks = {k: call for k, call in enumerate(calls) if not isinstance(call, FillCall)}
    if looks and segmenter is not None:
        images, prompts = [call.image for call in looks.values()], [call.prompt for call in looks.values()]
        answers |= dict(zip(looks, segmenter.segment(images, prompts), strict=True))
    return [answers[k] for k in range(len(calls))]


def run_side_by_side(
    runs: Sequence[Steps], answer: Callable[[Sequence[Call]], Sequence[Any]]
) -> list[Filled | Exception]:
    """Runs the steps of several removals, so that the models are given the calls of all at once.

    Args:
        runs: From `fill_in_attempts`, not started.
        answer: Answers calls in order. An exception among the answers ends its removal alone.

    Returns:
        What became of each, in order.
    """
    results: dict[int, Filled | Exception] = {}
    asked: dict[int, Sequence[Call]] = {}

    def go_on(k: int, answers: list[Any] | None) -> None:
        failed = next((a for a in answers or () if isinstance(a, Exception)), None)
        reached = failed or advance(runs[k], answers)
        if isinstance(reached, Filled | Exception):
            results[k] = reached
            asked.pop(k, None)
        else:
            asked[k] = reached

    for k in range(len(runs)):
        go_on(k, None)
    while asked:
        answers = iter(answer([call for calls in asked.values() for call in calls]))
        for k, calls in list(asked.items()):
            go_on(k, [next(answers) for _ in calls])
    return [results[k] for k in range(len(runs))]


class Remover:
    """Removes from photos what prompts name.

    Args:
        segmenter: Finds it.
        inpainter: Fills the hole.
        fill: How holes are cut out and pasted back.
        config: How hard to try.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        inpainter: Inpainter,
        fill: FillConfig = FillConfig(),
        config: RemovalConfig = RemovalConfig(),
    ) -> None:
        self.segmenter = segmenter
        self.inpainter = inpainter
        self.fill = fill
        self.config = config

    def remove(
        self,
        image: np.ndarray,
        prompt: str,
        mask: np.ndarray | None = None,
        seed: int = 0,
        adapter: str | None = None,
    ) -> Removal:
        """Removes what the prompt names, or what the mask covers.

        Args:
            image: RGB uint8 (height, width, 3).
            prompt: What to remove and where: "person at the left". With a mask it is only used to verify,
                and may be empty.
            mask: uint8 (height, width), 255 = remove; then nothing is segmented to find it.
            seed: The same seed gives the same pixels on one machine.
            adapter: Which of the inpainter's adapters to use; its own choice when None.

        Returns:
            The photo without it; the photo itself when nothing was found.

        Raises:
            PromptError: The prompt names nothing.
            ConfigError: The mask is not the size of the image, or there is no such adapter.
        """
        started = time.perf_counter()
        if mask is None:
            found = self.segmenter.segment([image], [clean_prompt(prompt)])[0]
        else:
            found = Segmentation(mask=mask, raw=mask, score=1.0, found=bool(mask.any()))
        seconds = time.perf_counter() - started
        if not found.found:
            return Removal(
                image=image.copy(),
                mask=found.mask,
                found=False,
                score=found.score,
                seconds={"segment": seconds},
            )
        steps = fill_in_attempts(
            image, found.mask, prompt_to_verify(prompt), seed=seed, config=self.config, adapter=adapter
        )
        (filled,) = run_side_by_side([steps], self._answer)
        if isinstance(filled, Exception):
            raise filled
        return removal_of(found, filled, segment_seconds=seconds)

    def _answer(self, calls: Sequence[Call]) -> list[Any]:
        return answer_calls(calls, self.segmenter, self.inpainter, self.fill)
