"""One PIPE row to one example: roles swapped, prompt refined, mask joined, sizes agreed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from PIL import Image

from textremove.errors import ImageError, PromptError
from textremove.images import encode_picture, open_mask, open_picture, resize_picture
from textremove.pipe.prompts import refine_prompt
from textremove.pipe.splits import split_of
from textremove.schema import KEY_COLUMNS, PHOTO_COLUMNS

_PNG_MAGIC = b"\x89PNG"
_NOT_STORED = ("photo_digest", "notes")


class RowRejected(Exception):
    """A row that gives no example.

    Args:
        reason: Snake-case name of the defect, under which it is counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Example:
    """One removal example; the columns of `textremove.schema.EXAMPLE_SCHEMA`.

    Attributes:
        photo_digest: First half of the SHA-256 of the input photo's file: the same for a copy of it under
            another id. Not stored.
        notes: What was mended on the way, such as "mask_resized"; counted, not stored.
    """

    example_id: str
    photo_id: str
    split: str
    prompt: str
    object_class: str
    place: str
    image: bytes
    mask: bytes
    truth: bytes | None
    height: int
    width: int
    photo_digest: bytes = b""
    notes: tuple[str, ...] = ()

    def columns(self) -> dict[str, Any]:
        """The example as a row of EXAMPLE_SCHEMA."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NOT_STORED
        }


def key_of(row: Mapping[str, Any]) -> str | None:
    """Joins a row's key columns to "<dataset>/<img_id>/<ann_id>", or None when one of them is null."""
    return _joined(row, KEY_COLUMNS)


def example_from_row(
    row: Mapping[str, Any], mask_png: bytes | None, *, resolution: int = 0, with_truth: bool = True
) -> Example:
    """Makes a removal example of a PIPE row and its mask.

    PIPE adds objects, so its roles are swapped: `target_img` is the input, `source_img` the truth.
    Photos stay the bytes they came as unless they must be resized, so nothing is compressed twice.

    Args:
        row: The columns of PIPE_SCHEMA.
        mask_png: The encoded mask of the same key, or None when there is none.
        resolution: Longest side of the example in pixels at most; 0 keeps the size of the photo.
        with_truth: Whether there is a photo without the object; PIPE has one for every row.

    Raises:
        RowRejected: The row cannot be used, with the reason. The cheap checks come first, so a row
            with several defects is counted under the first of: key, prompt, mask, image, truth.
    """
    example_id, photo_id = key_of(row), _joined(row, PHOTO_COLUMNS)
    if example_id is None or photo_id is None:
        raise RowRejected("key_missing")
    try:
        refined = refine_prompt(row["Instruction_Class"], row["object_location"])
    except PromptError:
        raise RowRejected("prompt_too_short") from None
    mask = _decoded_mask(mask_png)
    image, image_bytes = _decoded_photo(row["target_img"], "image")
    truth, truth_bytes = _decoded_photo(row["source_img"], "truth") if with_truth else (None, b"")

    notes = []
    size = _bounded_size(image.height, image.width, resolution)
    if mask.size != image.size:
        notes.append("mask_resized")
    if truth is not None and truth.size != image.size:
        notes.append("truth_resized")
    if (mask.height, mask.width) != size:
        mask = resize_picture(mask, size)
        if _is_empty(mask):  # nearest-neighbour shrinking can lose a speck of an object
            raise RowRejected("mask_empty")
    return Example(
        example_id=example_id,
        photo_id=photo_id,
        split=split_of(photo_id),
        prompt=refined.prompt,
        object_class=refined.object_class,
        place=refined.place,
        image=_at_size(image, image_bytes, size),
        mask=encode_picture(mask),
        truth=None if truth is None else _at_size(truth, truth_bytes, size),
        height=size[0],
        width=size[1],
        photo_digest=hashlib.sha256(image_bytes).digest()[:16],
        notes=tuple(notes),
    )


def _joined(row: Mapping[str, Any], columns: tuple[str, ...]) -> str | None:
    parts = [row[name] for name in columns]
    return None if any(part is None for part in parts) else "/".join(str(part) for part in parts)


def _decoded_mask(data: bytes | None) -> Image.Image:
    if not data:
        raise RowRejected("mask_missing")
    try:
        mask = open_mask(data)
    except ImageError as error:
        raise RowRejected(f"mask_{error.reason}") from None
    if _is_empty(mask):
        raise RowRejected("mask_empty")
    return mask


def _is_empty(mask: Image.Image) -> bool:
    return mask.getextrema()[1] == 0  # three times as fast as getbbox(): it stops at the first white row


def _decoded_photo(cell: Mapping[str, Any] | None, role: str) -> tuple[Image.Image, bytes]:
    data = cell["bytes"] if cell else None
    if not data:
        raise RowRejected(f"{role}_missing")
    try:
        return open_picture(data), data
    except ImageError as error:
        raise RowRejected(f"{role}_{error.reason}") from None


def _bounded_size(height: int, width: int, longest: int) -> tuple[int, int]:
    if longest <= 0 or max(height, width) <= longest:
        return height, width
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _at_size(image: Image.Image, data: bytes, size: tuple[int, int]) -> bytes:
    if (image.height, image.width) == size:
        return data
    lossless = data.startswith(_PNG_MAGIC)
    return encode_picture(resize_picture(image, size), format="png" if lossless else "jpeg")
