"""Augmenting examples: the horizontal flip, which turns the words of the prompt too."""

from __future__ import annotations

import numpy as np

from textremove.pipe.places import flip_place


def flip_example(
    image: np.ndarray, mask: np.ndarray, truth: np.ndarray, prompt: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Mirrors an example from left to right, and "left" and "right" in its prompt with it.

    Args:
        image: RGB uint8 (height, width, 3).
        mask: uint8 (height, width).
        truth: RGB uint8 (height, width, 3).
        prompt: Refined prompt.

    Returns:
        The four, mirrored, in the same order.
    """
    mirrored = (np.ascontiguousarray(array[:, ::-1]) for array in (image, mask, truth))
    return (*mirrored, flip_place(prompt))  # type: ignore[return-value]
