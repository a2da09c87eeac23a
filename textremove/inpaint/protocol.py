"""What every inpainter is: square crops and masks in, filled crops out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np


class Inpainter(Protocol):
    """Fills the hole under a mask. The fill depends on image, mask and seed only, not on the batch.

    Attributes:
        resolution: Side in pixels of the square crops it works on best.
        multiple: Crop sides must be a multiple of this many pixels. With 1, those of photos smaller than
            `resolution` come as they are, in sizes of their own.
        textured: Whether its fillings are as sharp as photos. Those of an inpainter that is not are drafts,
            which `textremove.inpaint.exemplars` rebuilds.
    """

    resolution: int
    multiple: int
    textured: bool

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Fills the masked part of each image.

        Args:
            images: RGB uint8 (height, width, 3), all of one size unless `multiple` is 1.
            masks: uint8 (height, width), 255 = fill, each the size of its image.
            seeds: One random seed per image.

        Returns:
            RGB uint8 (height, width, 3) each. Pixels outside the mask may differ slightly
            (a VAE is lossy); `textremove.removal` pastes back only what the mask covers.
        """
        ...

    def using(self, adapter: str) -> Self:
        """The same inpainter with another of its adapters. Raises AdapterError for an unknown name."""
        ...
