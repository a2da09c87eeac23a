"""The square a hole is filled in: cut out with context, filled at the model's size, pasted back soft.

Pixels are only ever changed under the feathered mask; everywhere else the photo stays as it was, bit
for bit, whatever a lossy VAE does to the rest of the square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np

from textremove.errors import ConfigError
from textremove.images import LANCZOS_REACH, resize_image, resize_mask
from textremove.inpaint.masks import boxed, dilate
from textremove.inpaint.parts import far_parts
from textremove.inpaint.protocol import Inpainter
from textremove.inpaint.window import Window, choose_window

When = Literal["auto", "always", "never"]
"""Whether something is done; "auto" goes by what the inpainter paints."""


@dataclass(frozen=True, kw_only=True)
class FillConfig:
    """How a hole is cut out and pasted back. Lengths are fractions of the square's side.

    Attributes:
        context: Side of the square over the larger side of the hole's box, when the photo has room.
        dilation: How far the mask is grown first: an uncovered rim or shadow seeds a new object. The
            default is that of CLIPAway (a 5x5 kernel five times, at 512 px), 10 / 512.
        feather: Width of the soft edge outside the grown mask.
        match_colours: Whether the filling's colours are shifted to those around the hole.
        shape: Whether a hole is the mask as it is, or the box around each of its far-apart parts.
        exemplars: Whether fillings are rebuilt from patches of the photo: "auto" does it for inpainters that
            paint no texture of their own.
        occluders: Whether what stands in front of the object is hidden from the inpainter, which would go on
            with it in the hole: "auto" does it for the same ones. Holes with gaps in their outline are then
            filled twice.

    Raises:
        ConfigError: A number out of range.
    """

    context: float = 2.0
    dilation: float = 0.02
    feather: float = 0.02
    match_colours: bool = True
    shape: Literal["mask", "box"] = "mask"
    exemplars: When = "auto"
    occluders: When = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.context <= 10:
            raise ConfigError(f"--context must lie in [1, 10], not {self.context}")
        for name in ("dilation", "feather"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise ConfigError(f"--{name} must lie in [0, 0.5], not {getattr(self, name)}")
        if self.shape not in ("mask", "box"):
            raise ConfigError(f"--shape must be mask or box, not {self.shape!r}")
        for name in ("exemplars", "occluders"):
            if getattr(self, name) not in get_args(When):
                raise ConfigError(f"--{name} must be auto, always or never, not {getattr(self, name)!r}")

    def rebuilds(self, inpainter: Inpainter) -> bool:
        """Whether an inpainter's fillings are rebuilt."""
        return self.exemplars == "always" or (self.exemplars == "auto" and not inpainter.textured)

    def hides_occluders(self, inpainter: Inpainter) -> bool:
        """Whether what stands in front is hidden from an inpainter."""
        return self.occluders == "always" or (self.occluders == "auto" and not inpainter.textured)


def _cut(array: np.ndarray, window: Window) -> np.ndarray:
    height, width = array.shape[:2]
    top, left, side = window.top, window.left, window.side
    inside = array[max(top, 0) : top + side, max(left, 0) : left + side]
    pads = (max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0))
    return cv2.copyMakeBorder(inside, *pads, cv2.BORDER_REPLICATE) if any(pads) else inside


def cut_image(image: np.ndarray, window: Window, resolution: int) -> np.ndarray:
    """Cuts a square out of an image and resizes it: RGB uint8 (resolution, resolution, 3).

    What hangs over is the image's own edge repeated.
    """
    return resize_image(_cut(image, window), (resolution, resolution))


def cut_mask(mask: np.ndarray, window: Window, resolution: int) -> np.ndarray:
    """Cuts a square out of a mask and resizes it: uint8 (resolution, resolution).

    Where it hangs over, the mask's own edge is repeated, as the image's is: an object that touches the edge
    would otherwise be shown as if it were to stay.
    """
    return resize_mask(_cut(mask, window), (resolution, resolution))


def feathered_alpha(mask: np.ndarray, feather: float) -> np.ndarray:
    """Opacity of the filling, float32 (height, width): 1 on the mask, 0 from `feather` pixels outside it."""
    distance = cv2.distanceTransform(
        np.where(mask > 0, 0, 255).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return np.clip(1 - distance / (feather + 1), 0, 1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A hole cut out for filling.

    Attributes:
        window: Where the square lies.
        mask: uint8 (height, width), the mask as grown, at the photo's size.
        hidden: uint8 (height, width), what the inpainter must not see: the mask, and other holes.
        feather: Width of the soft edge in the photo's pixels.
    """

    window: Window
    mask: np.ndarray
    hidden: np.ndarray
    feather: float


def also_hide(hole: Hole, square_mask: np.ndarray) -> Hole:
    """Hides more of a photo: also what is covered, in the square, by a mask of the square's size."""
    window = hole.window
    covered = resize_mask(square_mask, (window.side, window.side))
    hidden = hole.hidden.copy()
    y0, x0 = max(window.top, 0), max(window.left, 0)
    region = hidden[y0 : window.top + window.side, x0 : window.left + window.side]
    y, x = y0 - window.top, x0 - window.left
    region |= covered[y : y + region.shape[0], x : x + region.shape[1]]
    return replace(hole, hidden=hidden)


def paste(
    image: np.ndarray,
    filled: np.ndarray,
    hole: Hole,
    *,
    finish: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> None:
    """Pastes a filled square into a photo.

    Args:
        image: RGB uint8 (height, width, 3); changed.
        filled: RGB uint8, the square at the inpainter's size.
        hole: Where it came from.
        finish: Called with what lies within the photo, at the photo's own size: the filling, the photo and
            what is hidden of it. Gives the filling to paste instead.
    """
    height, width = image.shape[:2]
    window = hole.window
    square = resize_image(filled, (window.side, window.side))
    y0, x0 = max(window.top, 0), max(window.left, 0)
    y1, x1 = min(window.top + window.side, height), min(window.left + window.side, width)
    fill = square[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left]
    region = image[y0:y1, x0:x1]
    if finish is not None:
        fill = finish(fill, region, hole.hidden[y0:y1, x0:x1])
    alpha = feathered_alpha(hole.mask[y0:y1, x0:x1], hole.feather)[..., None]
    mixed = np.rint(alpha * fill.astype(np.float32) + (1 - alpha) * region)
    region[:] = np.where(alpha > 0, mixed, region).astype(np.uint8)


def open_hole(mask: np.ndarray, *, resolution: int, config: FillConfig) -> Hole:
    """Grows a mask and chooses its square. Training uses it too, so that it sees the holes of use."""
    left, top, width, height = cv2.boundingRect(mask)
    box = (left, top, left + width, top + height)
    window = choose_window(box, mask.shape, resolution=resolution, context=config.context)
    growth = round(window.side * config.dilation)
    if config.dilation and window.side < resolution:  # enlarging smears the object over its edge
        growth = max(growth, LANCZOS_REACH)
    grown = dilate(boxed(mask) if config.shape == "box" else mask, growth)
    return Hole(window=window, mask=grown, hidden=grown, feather=window.side * config.feather)


def open_holes(mask: np.ndarray, *, resolution: int, config: FillConfig) -> list[Hole]:
    """Opens a hole for each far-apart part of a mask, so that each is filled at the best resolution.

    Each square hides the other holes as well: an object that is to go is no context.
    """
    parts = far_parts(mask, resolution=resolution, context=config.context)
    holes = [open_hole(part, resolution=resolution, config=config) for part in parts]
    if len(holes) > 1:
        hidden = np.bitwise_or.reduce([hole.mask for hole in holes])
        holes = [replace(hole, hidden=hidden) for hole in holes]
    return holes


def changeable(mask: np.ndarray, *, resolution: int, config: FillConfig) -> np.ndarray:
    """Where filling may change a photo: under the feathered masks of its holes. bool (height, width).

    Args:
        mask: uint8 (height, width), 255 = remove.
        resolution: Of the inpainter.
        config: As it was filled with.
    """
    allowed = np.zeros(mask.shape, bool)
    for hole in open_holes(mask, resolution=resolution, config=config) if mask.any() else ():
        allowed |= feathered_alpha(hole.mask, hole.feather) > 0
    return allowed
