from __future__ import annotations

import numpy as np
import pyarrow as pa

from textremove.images import encode_image, encode_mask
from textremove.letterbox import PAD_COLOR
from textremove.onray.squares import to_square, to_training_squares


def examples() -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for height, width, prompt in ((40, 64, "ball at the left"), (64, 32, "Größe"), (64, 64, "box")):
        mask = np.zeros((height, width), np.uint8)
        mask[5:20, 7:30] = 255
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        rows.append({"image": encode_image(image), "mask": encode_mask(mask), "prompt": prompt})
    return rows


def test_a_batch_is_the_same_squares_as_one_by_one() -> None:
    rows = examples()
    batch = to_training_squares(pa.Table.from_pylist(rows), side=64)
    assert batch["image"].shape == (3, 64, 64, 3)
    assert batch["prompt"] == [row["prompt"] for row in rows]
    for k, row in enumerate(rows):
        square = to_square(row, side=64)
        assert np.array_equal(batch["image"][k], square["image"])
        assert np.array_equal(batch["mask"][k], square["mask"])
        assert (square["image"][~square["valid"]] == PAD_COLOR).all()
        assert square["valid"].mean() == (0.625, 0.5, 1.0)[k]
