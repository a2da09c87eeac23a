"""Inpainters without weights: OpenCV's Telea and Navier-Stokes. The honest cheap baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import cv2
import numpy as np

from textremove.errors import AdapterError, ConfigError

METHODS = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}


class ClassicalInpainter:
    """Continues the surroundings into the hole (Telea 2004; Bertalmio et al. 2001). Implements Inpainter.

    Args:
        method: A key of METHODS.
        radius: Neighbourhood that each filled pixel looks at, in pixels.

    Raises:
        ConfigError: An unknown method.
    """

    resolution = 512
    multiple = 1
    textured = False

    def __init__(self, method: str = "telea", *, radius: float = 5.0) -> None:
        if method not in METHODS:
            raise ConfigError(f"unknown classical method {method!r}; choose from {', '.join(METHODS)}")
        self.method = method
        self.radius = radius

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Fills each hole; seeds make no difference. Shapes as in `Inpainter.inpaint`."""
        return [self._fill(image, mask) for image, mask in zip(images, masks, strict=True)]

    def _fill(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        # In floats, channel by channel: in bytes Telea's rounding adds up to 12 levels over a large hole in
        # flat ground, and takes five times as long.
        channels = [
            cv2.inpaint(channel.astype(np.float32), mask, self.radius, METHODS[self.method])
            for channel in cv2.split(image)
        ]
        filled = np.clip(np.rint(cv2.merge(channels)), 0, 255).astype(np.uint8)
        return np.where(mask[..., None] > 0, filled, image)

    def using(self, adapter: str) -> Self:
        """Raises AdapterError: there are no weights that an adapter could change."""
        raise AdapterError(f"{self.method} has no adapters; leave the adapter {adapter!r} out")
