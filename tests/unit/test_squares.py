from __future__ import annotations

import numpy as np
import pyarrow as pa

from textremove.images import encode_image, encode_mask
from textremove.letterbox import PAD_COLOR
from textremove.onray.squares import to_square, training_squares
from textremove.pipe.absent import AbsentExamples


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
    first, last = training_squares(pa.Table.from_pylist(rows), side=64, together=2)
    assert first["image"].shape == (2, 64, 64, 3)
    batch = {name: np.concatenate([first[name], last[name]]) for name in ("image", "mask")}
    assert first["prompt"] + last["prompt"] == [row["prompt"] for row in rows]
    for k, row in enumerate(rows):
        square = to_square(row, side=64)
        assert np.array_equal(batch["image"][k], square["image"])
        assert np.array_equal(batch["mask"][k], square["mask"])
        assert (square["image"][~square["valid"]] == PAD_COLOR).all()
        assert square["valid"].mean() == (0.625, 0.5, 1.0)[k]


def test_an_absent_example_is_a_square_with_an_empty_mask() -> None:
    photo, truth = (np.full((64, 64, 3), value, np.uint8) for value in (40, 200))
    row = examples()[2] | {
        "example_id": "COCO/1/1",
        "object_class": "ball",
        "place": "left",
        "image": encode_image(photo),
        "truth": encode_image(truth),
    }
    rows = [row | {"example_id": f"COCO/{k}/1"} for k in range(40)]
    absent = AbsentExamples(share=0.5, classes={"ball": 2, "tree": 1})
    (batch,) = training_squares(pa.Table.from_pylist(rows), side=64, together=40, absent=absent)
    empty = ~batch["mask"].any(axis=(1, 2))
    emptied = (batch["image"] == 200).all(axis=(1, 2, 3))
    other = np.array(batch["prompt"]) == "tree at the left"
    assert set(batch["prompt"]) == {"box", "tree at the left"}
    assert np.array_equal(empty, emptied | other)
    assert not (emptied & other).any()
    assert 0 < emptied.sum() < empty.sum() < 40
