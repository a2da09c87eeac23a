"""Removing what a prompt names: segment, then fill. One process, no Ray.

Batch and Serve run these same functions stage by stage, so a removal is the same pixels in all three.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textremove.errors import ConfigError, PromptError
from textremove.inpaint.blend import match_surroundings
from textremove.inpaint.crop import FillConfig, cut_image, cut_mask, open_hole, paste
from textremove.inpaint.protocol import Inpainter
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


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What became of one removal.

    Attributes:
        image: RGB uint8 (height, width, 3). The photo itself when nothing was found.
        mask: uint8 (height, width), 255 = asked to be removed, before it is grown for filling.
        found: Whether there was anything to remove.
        score: The segmenter's confidence in [0, 1]; 1.0 for a mask given by the caller.
        seconds: Time taken by "segment" and "inpaint".
    """

    image: np.ndarray
    mask: np.ndarray
    found: bool
    score: float
    seconds: dict[str, float]


def fill_holes(
    inpainter: Inpainter,
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    seeds: Sequence[int],
    config: FillConfig = FillConfig(),
) -> list[np.ndarray]:
    """Fills the masked part of photos of any size.

    Each hole is cut out in a square with context, filled at the inpainter's resolution, matched in colour
    to its surroundings and pasted back with a feathered edge. Outside the feathered mask every pixel is the
    input's, bit for bit.

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
    wanted = [k for k, mask in enumerate(masks) if mask.any()]
    size = inpainter.resolution
    holes = [open_hole(masks[k], resolution=size, config=config) for k in wanted]
    squares = [cut_image(images[k], hole.window, size) for k, hole in zip(wanted, holes, strict=True)]
    square_masks = [cut_mask(hole.mask, hole.window, size) for hole in holes]
    filled = inpainter.inpaint(squares, square_masks, [seeds[k] for k in wanted])
    if config.match_colours:
        filled = list(map(match_surroundings, filled, squares, square_masks))
    results = [image.copy() for image in images]
    for k, hole, square in zip(wanted, holes, filled, strict=True):
        results[k] = paste(images[k], square, hole.mask, hole.window, hole.feather)
    return results


class Remover:
    """Removes from photos what prompts name.

    Args:
        segmenter: Finds it.
        inpainter: Fills the hole.
        fill: How holes are cut out and pasted back.
    """

    def __init__(self, segmenter: Segmenter, inpainter: Inpainter, fill: FillConfig = FillConfig()) -> None:
        self.segmenter = segmenter
        self.inpainter = inpainter
        self.fill = fill

    def remove(
        self, image: np.ndarray, prompt: str, mask: np.ndarray | None = None, seed: int = 0
    ) -> Removal:
        """Removes what the prompt names, or what the mask covers.

        Args:
            image: RGB uint8 (height, width, 3).
            prompt: What to remove and where: "person at the left". Not looked at when a mask is given.
            mask: uint8 (height, width), 255 = remove; then nothing is segmented.
            seed: The same seed gives the same pixels on one machine.

        Returns:
            The photo without it; the photo itself when nothing was found.

        Raises:
            PromptError: The prompt names nothing.
            ConfigError: The mask is not the size of the image.
        """
        started = time.perf_counter()
        if mask is None:
            found = self.segmenter.segment([image], [clean_prompt(prompt)])[0]
        else:
            found = Segmentation(mask=mask, raw=mask, score=1.0, found=bool(mask.any()))
        segmented = time.perf_counter()
        result = fill_holes(self.inpainter, [image], [found.mask], [seed], self.fill)[0]
        seconds = {"segment": segmented - started, "inpaint": time.perf_counter() - segmented}
        return Removal(image=result, mask=found.mask, found=found.found, score=found.score, seconds=seconds)
