"""Prepared examples as the squares an inpainter learns from. Light to import: every reading process does."""

from __future__ import annotations

from typing import Any

import numpy as np

from textremove.images import decode_image, decode_mask
from textremove.inpaint.holes import HoleConfig, Square, cut_square

PICTURE_COLUMNS = ("image", "mask", "truth")


def training_square(row: dict[str, Any], *, resolution: int, holes: HoleConfig, seed: int) -> Square:
    """Decodes a prepared example and cuts its square out.

    Args:
        row: With "image", "mask", "truth", and the "number" and "epoch" that its hole is drawn from.
        resolution: The base's, in pixels.
        holes: Which hole it gets.
        seed: What holes are drawn from.
    """
    return cut_square(
        decode_image(row["image"]),
        decode_mask(row["mask"]),
        decode_image(row["truth"]),
        resolution=resolution,
        holes=holes,
        rng=np.random.default_rng([seed, row["epoch"], row["number"]]),
    )


def square_columns(row: dict[str, Any], *, resolution: int, holes: HoleConfig, seed: int) -> dict[str, Any]:
    """`training_square` as columns, to travel through Ray Data."""
    square = training_square(row, resolution=resolution, holes=holes, seed=seed)
    return {
        "picture": square.picture,
        "mask": square.mask,
        "truth": square.truth,
        "number": row["number"],
    }
