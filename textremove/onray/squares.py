"""Prepared examples as the squares a segmenter reads. Light to import: every reading process does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

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


def to_training_squares(examples: pa.Table, *, side: int) -> dict[str, Any]:
    """Decodes a batch of prepared examples into the model's squares, in one array of each kind.

    Args:
        examples: With the columns "image", "mask" and "prompt".
        side: Of the squares, in pixels.

    Returns:
        "image" RGB uint8 (B, side, side, 3), "mask" uint8 (B, side, side) and "prompt", B texts.
    """
    images = np.empty((examples.num_rows, side, side, 3), np.uint8)
    masks = np.empty((examples.num_rows, side, side), np.uint8)
    for k, row in enumerate(examples.select(["image", "mask"]).to_pylist()):
        image, mask = decode_image(row["image"]), decode_mask(row["mask"])
        box = Letterbox(side=side, height=image.shape[0], width=image.shape[1])
        images[k], masks[k] = box.image(image), box.mask(mask)
    return {"image": images, "mask": masks, "prompt": examples["prompt"].to_pylist()}
