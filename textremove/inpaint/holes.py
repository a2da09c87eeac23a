"""The holes that an adapter is trained on: those of use, and if asked random ones. Without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from textremove.inpaint.crop import FillConfig, cut_image, cut_mask, open_hole
from textremove.inpaint.masks import boxed, random_mask


@dataclass(frozen=True, kw_only=True)
class HoleConfig:
    """Which holes examples get. All that is not random is grown and cut out as in use.

    Attributes:
        fill: How holes are grown and cut out in use.
        box_masks: Share of the examples whose hole is the box around the object instead of its shape.
        random_masks: Share of the examples whose hole is a random one, on the photo without the object.
    """

    fill: FillConfig = field(default_factory=FillConfig)
    box_masks: float = 0.0
    random_masks: float = 0.0

    @property
    def is_drawn(self) -> bool:
        """Whether there is anything to draw: otherwise an example always has the same hole."""
        return self.random_masks > 0 or 0 < self.box_masks < 1


@dataclass(frozen=True, kw_only=True)
class Square:
    """An example cut out at the base's resolution R.

    Attributes:
        picture: RGB uint8 (R, R, 3), in which the hole will be made.
        mask: uint8 (R, R), above 127 in the hole.
        truth: RGB uint8 (R, R, 3), what is to be rebuilt.
    """

    picture: np.ndarray
    mask: np.ndarray
    truth: np.ndarray


def cut_square(
    image: np.ndarray,
    mask: np.ndarray,
    truth: np.ndarray,
    *,
    resolution: int,
    holes: HoleConfig,
    rng: np.random.Generator,
) -> Square:
    """Cuts an example's square out, exactly as it is cut in use.

    Args:
        image: RGB uint8 (height, width, 3), with the object.
        mask: uint8 (height, width), 255 = object, not empty.
        truth: RGB uint8 (height, width, 3), without the object.
        resolution: The base's side in pixels.
        holes: Which hole it gets.
        rng: Draws it.
    """
    # Always two draws, so that a share does not change what else is drawn.
    is_random, is_box = rng.random(2) < (holes.random_masks, holes.box_masks)
    hole = open_hole(boxed(mask) if is_box else mask, resolution=resolution, config=holes.fill)
    square_truth = cut_image(truth, hole.window, resolution)
    if is_random:
        # Outside the hole nothing may be different: an object that is not in it has to stay.
        return Square(picture=square_truth, mask=random_mask(rng, resolution), truth=square_truth)
    return Square(
        picture=cut_image(image, hole.window, resolution),
        mask=cut_mask(hole.mask, hole.window, resolution),
        truth=square_truth,
    )
