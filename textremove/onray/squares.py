"""Prepared examples as the squares a segmenter reads. Light to import: every reading process does."""

from __future__ import annotations

from typing import Any

from textremove.images import decode_image, decode_mask
from textremove.letterbox import Letterbox


def to_square(row: dict[str, Any], *, side: int) -> dict[str, Any]:
    """Decodes a prepared example into the model's square.

    Args:
        row: With "image", "mask" and "prompt".
        side: Of the square, in pixels.

    Returns:
        "image" RGB uint8 (side, side, 3), "mask" uint8 (side, side), "valid" bool (side, side), False on
        the border around the photo, and "prompt".
    """
    image, mask = decode_image(row["image"]), decode_mask(row["mask"])
    box = Letterbox(side=side, height=image.shape[0], width=image.shape[1])
    return {"image": box.image(image), "mask": box.mask(mask), "valid": box.valid(), "prompt": row["prompt"]}


def to_training_square(row: dict[str, Any], *, side: int) -> dict[str, Any]:
    """`to_square` without "valid", which training does not need."""
    square = to_square(row, side=side)
    del square["valid"]
    return square
