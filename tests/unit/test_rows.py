from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from textremove.images import decode_image, decode_mask, encode_image, encode_mask
from textremove.pipe.rows import RowRejected, example_from_row, key_of
from textremove.pipe.splits import split_of

HEIGHT, WIDTH = 30, 48


def photo(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH), *, format: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return encode_image(pixels, format=format)


def mask(size: tuple[int, int] = (HEIGHT, WIDTH)) -> bytes:
    pixels = np.zeros(size, np.uint8)
    pixels[: size[0] // 2, : size[1] // 3] = 255
    return encode_mask(pixels)


def pipe_row(**changes: Any) -> dict[str, Any]:
    row = {
        "source_img": {"bytes": photo(1), "path": None},
        "target_img": {"bytes": photo(2), "path": None},
        "Instruction_Class": "add a Person",
        "object_location": " at the left",
        "target_img_dataset": "COCO",
        "img_id": "9",
        "ann_id": "9002",
    }
    return row | changes


def cell(data: bytes | None) -> dict[str, Any]:
    return {"bytes": data, "path": None}


def test_the_roles_are_swapped_and_the_photos_stay_the_bytes_they_were() -> None:
    row = pipe_row()
    example = example_from_row(row, mask())
    assert example.image == row["target_img"]["bytes"]  # with the object
    assert example.truth == row["source_img"]["bytes"]  # without
    assert (example.prompt, example.object_class, example.place) == ("person at the left", "person", "left")
    assert (example.example_id, example.photo_id) == ("COCO/9/9002", "COCO/9")
    assert example.split == split_of("COCO/9")
    assert (example.height, example.width) == (HEIGHT, WIDTH)
    assert example.notes == ()


@pytest.mark.parametrize(
    ("reason", "changes", "mask_png"),
    [
        ("key_missing", {"ann_id": None}, mask()),
        ("prompt_too_short", {"Instruction_Class": "add"}, mask()),
        ("prompt_too_short", {"Instruction_Class": None}, mask()),
        ("mask_missing", {}, None),
        ("mask_not_an_image", {}, b"junk"),
        ("mask_empty", {}, encode_mask(np.zeros((HEIGHT, WIDTH), np.uint8))),
        ("image_missing", {"target_img": None}, mask()),
        ("image_missing", {"target_img": cell(None)}, mask()),
        ("image_not_an_image", {"target_img": cell(b"not an image")}, mask()),
        ("image_truncated", {"target_img": cell(photo(2, format="jpeg")[:900])}, mask()),
        ("truth_truncated", {"source_img": cell(photo(2, format="jpeg")[:900])}, mask()),
        ("truth_not_an_image", {"source_img": cell(b"not an image")}, mask()),
    ],
)
def test_each_defect_has_its_reason(reason: str, changes: dict[str, Any], mask_png: bytes | None) -> None:
    with pytest.raises(RowRejected) as rejection:
        example_from_row(pipe_row(**changes), mask_png)
    assert rejection.value.reason == reason


def test_a_mask_of_another_size_is_resized_and_stays_black_and_white() -> None:
    example = example_from_row(pipe_row(), mask((64, 64)))
    pixels = decode_mask(example.mask)
    assert example.notes == ("mask_resized",)
    assert pixels.shape == (HEIGHT, WIDTH)
    assert pixels[:14, :15].min() == 255
    assert pixels[16:].max() == 0
    assert pixels[:, 17:].max() == 0


def test_a_truth_of_another_size_is_resized() -> None:
    example = example_from_row(pipe_row(source_img=cell(photo(1, (60, 96)))), mask())
    assert example.notes == ("truth_resized",)
    assert decode_image(example.truth).shape == (HEIGHT, WIDTH, 3)


def test_resolution_bounds_the_longest_side_of_all_three() -> None:
    example = example_from_row(pipe_row(), mask(), resolution=24)
    assert (example.height, example.width) == (15, 24)
    assert decode_image(example.image).shape == (15, 24, 3)
    assert decode_image(example.truth).shape == (15, 24, 3)
    assert decode_mask(example.mask).shape == (15, 24)
    assert example.notes == ()


def test_resolution_enlarges_nothing() -> None:
    row = pipe_row()
    example = example_from_row(row, mask(), resolution=500)
    assert example.image == row["target_img"]["bytes"]


def test_a_speck_lost_in_shrinking_is_an_empty_mask() -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[1, 1] = 255
    with pytest.raises(RowRejected, match="mask_empty"):
        example_from_row(pipe_row(), encode_mask(pixels), resolution=8)


def test_numbers_as_keys_join_like_text() -> None:
    assert key_of(pipe_row(img_id=9, ann_id=9002)) == "COCO/9/9002"
