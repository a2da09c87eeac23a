"""Prepared examples as the squares a segmenter reads. Light to import: every reading process does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from textremove.images import decode_image, decode_mask
from textremove.letterbox import Letterbox
from textremove.pipe.absent import AbsentExamples

COLUMNS = ["image", "mask", "prompt"]
"""What of a prepared example makes a square."""


def to_square(row: dict[str, Any], *, side: int) -> dict[str, Any]:
    """Decodes a prepared example into the model's square.

    Args:
        row: With "image", "mask" and "prompt"; a mask of None is an empty one.
        side: Of the square, in pixels.

    Returns:
        "image" RGB uint8 (side, side, 3), "mask" uint8 (side, side), "valid" bool (side, side), False on
        the border around the photo, and "prompt".
    """
    image = decode_image(row["image"])
    mask = np.zeros(image.shape[:2], np.uint8) if row["mask"] is None else decode_mask(row["mask"])
    box = Letterbox(side=side, height=image.shape[0], width=image.shape[1])
    return {"image": box.image(image), "mask": box.mask(mask), "valid": box.valid(), "prompt": row["prompt"]}


def training_squares(
    examples: pa.Table, *, side: int, together: int, absent: AbsentExamples | None = None
) -> Iterator[dict[str, Any]]:
    """Decodes prepared examples into the model's squares, in one array of each kind for every few rows.

    Args:
        examples: With COLUMNS, and the columns that `absent` looks at.
        side: Of the squares, in pixels.
        together: How many rows make the arrays; the last ones may be of fewer.
        absent: Shows some of the examples without their object.

    Yields:
        "image" RGB uint8 (B, side, side, 3), "mask" uint8 (B, side, side) and "prompt", B texts.
    """
    for start in range(0, examples.num_rows, together):
        rows = examples.slice(start, together).to_pylist()
        if absent is not None:
            rows = [absent.apply(row) for row in rows]
        images = np.empty((len(rows), side, side, 3), np.uint8)
        masks = np.empty((len(rows), side, side), np.uint8)
        for k, row in enumerate(rows):
            square = to_square(row, side=side)
            images[k], masks[k] = square["image"], square["mask"]
        yield {"image": images, "mask": masks, "prompt": [row["prompt"] for row in rows]}
