"""What every segmenter is: photos and prompts in, one segmentation each out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Where a segmenter thinks the named object is.

    Attributes:
        mask: uint8 (height, width) of the photo, 255 = remove; all zero when nothing was found.
        raw: uint8 (height, width), the pixel mask before the mask strategy (box or raw) was applied.
        score: Confidence in [0, 1] that the named object is there.
        found: Whether the object was found. False goes with an all-zero mask.
    """

    mask: np.ndarray
    raw: np.ndarray
    score: float
    found: bool


class Segmenter(Protocol):
    """Finds the object a prompt names. Predictions do not depend on what else is in the batch."""

    def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
        """Segments each photo by its prompt.

        Args:
            images: RGB uint8 (height, width, 3); sizes may differ.
            prompts: One refined prompt per image.

        Returns:
            One Segmentation per image, masks at that image's own size.
        """
        ...
