"""Between photos of any shape and the square that models work on, aspect ratio kept."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from textremove.images import resize_image, resize_mask

PAD_COLOR = (124, 116, 104)
"""The mean ImageNet colour, RGB uint8: a padded border is close to zero once normalised."""


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """The mapping of one photo's frame into a square, aspect ratio kept, centred, borders padded.

    Attributes:
        side: Side of the square in pixels.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.
    """

    side: int
    height: int
    width: int

    @property
    def inner_size(self) -> tuple[int, int]:
        """(height, width) of the photo inside the square, in pixels."""
        scale = self.side / max(self.height, self.width)
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    @property
    def offset(self) -> tuple[int, int]:
        """(top, left) of the photo inside the square, in pixels."""
        inner_height, inner_width = self.inner_size
        return (self.side - inner_height) // 2, (self.side - inner_width) // 2

    def image(self, image: np.ndarray) -> np.ndarray:
        """Puts an image or its truth, RGB uint8 (height, width, 3), into the square."""
        return self._padded(resize_image(self._checked(image), self.inner_size), PAD_COLOR)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Puts a mask, uint8 (height, width), into the square; the border is 0."""
        return self._padded(resize_mask(self._checked(mask), self.inner_size), 0)

    def valid(self) -> np.ndarray:
        """Where the square shows the photo: bool (side, side), False on the border."""
        square = np.zeros((self.side, self.side), bool)
        square[self._window] = True
        return square

    def image_back(self, square: np.ndarray) -> np.ndarray:
        """Takes the photo out of a square, RGB uint8 (side, side, 3), at the photo's own size."""
        return resize_image(square[self._window], (self.height, self.width))

    def mask_back(self, square: np.ndarray) -> np.ndarray:
        """Takes the mask out of a square, uint8 (side, side), at the photo's own size."""
        return resize_mask(square[self._window], (self.height, self.width))

    @property
    def _window(self) -> tuple[slice, slice]:
        (top, left), (height, width) = self.offset, self.inner_size
        return slice(top, top + height), slice(left, left + width)

    def _padded(self, inner: np.ndarray, value: int | tuple[int, ...]) -> np.ndarray:
        """Puts borders around what fills the square along one side at least; as it is when along both."""
        (top, left), (height, width) = self.offset, self.inner_size
        if height == width == self.side:
            return inner
        bottom, right = self.side - top - height, self.side - left - width
        return cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_CONSTANT, value=value)

    def _checked(self, array: np.ndarray) -> np.ndarray:
        if array.shape[:2] != (self.height, self.width):
            raise ValueError(f"expected {self.height}x{self.width} pixels, got {array.shape[:2]}")
        return array
