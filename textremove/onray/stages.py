"""The stages of a batch as plain callables on rows: read, segment, inpaint, write.

A row starts as an input, and each stage adds what it knows. A row with a status is finished: later stages
pass it on, and only the last one writes. Photos travel as the bytes they came in, and each model stage
decodes them for itself; that costs milliseconds, and a decoded photo is thirty times as large.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from textremove.attempts import RemovalConfig, fill_in_attempts
from textremove.errors import ImageError, PromptError, UserError
from textremove.images import Photo, decode_mask, decode_photo, encode_like, encode_mask
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.protocol import Inpainter
from textremove.onray.batch_store import output_name, remove_outputs, write_output
from textremove.onray.models import each_or_error
from textremove.removal import answer_calls, clean_prompt, prompt_to_verify, run_side_by_side
from textremove.schema import MANIFEST_SCHEMA
from textremove.segment.protocol import Segmenter

Row = dict[str, Any]

STAGE_SCHEMA = pa.schema(
    [
        *MANIFEST_SCHEMA,
        ("path", pa.binary()),  # the photo's file; null when the photo came with the row
        ("image", pa.binary()),  # encoded photo; once inpainted, the encoded result
        ("mask", pa.binary()),  # PNG
        ("failure", pa.string()),  # a user's mistake that ends the whole batch
    ]
)
"""What passes from stage to stage. An empty status says that there is more to do."""


def seed_of(input_id: str, seed: int) -> int:
    """Derives an input's own seed, in [0, 2**31), so that pixels do not depend on batch, order or actors."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{input_id}".encode()).digest()[:4]) >> 1


def new_row(input_id: str, prompt: str, seed: int, **given: bytes | None) -> Row:
    """Makes the row of an input that nothing has been done to yet."""
    row = dict.fromkeys(STAGE_SCHEMA.names)
    texts = dict.fromkeys(("status", "reason", "message", "output", "failure"), "")
    return row | texts | {"input_id": input_id, "prompt": prompt, "seed": seed_of(input_id, seed)} | given


def from_examples(examples: list[dict[str, Any]], ids: frozenset[str], seed: int) -> list[Row]:
    """Makes rows of those prepared examples that are named in `ids`."""
    return [
        new_row(row["example_id"], row["prompt"], seed, image=row["image"], mask=row.get("mask"))
        for row in examples
        if row["example_id"] in ids
    ]


def as_table(rows: list[Row]) -> pa.Table:
    """Puts rows into the one schema that all stages share."""
    return pa.Table.from_pylist(rows, schema=STAGE_SCHEMA)


def read(rows: list[Row]) -> list[Row]:
    """Reads the photos' files, and takes down what was read."""
    for row in rows:
        if row["path"] is not None:
            try:
                row["image"] = Path(os.fsdecode(row["path"])).read_bytes()
            except OSError as error:
                _fail(row, ImageError(f"cannot be read: {error.strerror or error}", reason="unreadable"), "")
                continue
        row["input_sha256"] = hashlib.sha256(row["image"]).hexdigest()
    return rows


def segment(rows: list[Row], segmenter: Segmenter) -> list[Row]:
    """Finds what the prompts name; a row in which it is not there is finished."""
    for row in rows:
        if row["status"]:
            continue
        try:
            clean_prompt(row["prompt"])
        except PromptError as error:
            _fail(row, error, "")
    todo = _decoded(rows)
    started = time.perf_counter()
    found = each_or_error(
        lambda items: segmenter.segment(
            [photo.image for _, photo in items], [clean_prompt(row["prompt"]) for row, _ in items]
        ),
        todo,
    )
    seconds = (time.perf_counter() - started) / max(len(todo), 1)
    for (row, _), segmentation in zip(todo, found, strict=True):
        if isinstance(segmentation, Exception):
            _fail(row, segmentation, "segment_failed")
            continue
        row |= {"score": segmentation.score, "segment_seconds": seconds}
        _take_mask(row, segmentation.mask, found=segmentation.found)
    return rows


def take_masks(rows: list[Row]) -> list[Row]:
    """Takes the masks that came with the rows instead of segmenting."""
    for row, _ in _decoded(rows):
        try:
            mask = decode_mask(row["mask"])
        except ImageError as error:
            _fail(row, error, "")
        else:
            _take_mask(row, mask, found=bool(mask.any()))
    return rows


def inpaint(
    rows: list[Row],
    inpainter: Inpainter,
    segmenter: Segmenter | None = None,
    *,
    fill: FillConfig = FillConfig(),
    removal: RemovalConfig = RemovalConfig(),
) -> list[Row]:
    """Fills the holes, looks whether the objects are gone, and encodes the results in kind.

    Args:
        rows: Segmented.
        inpainter: Fills.
        segmenter: Looks; without one nothing is verified.
        fill: How holes are cut out and pasted back.
        removal: How hard to try.
    """
    todo = _decoded(rows)
    runs = [
        fill_in_attempts(
            photo.image,
            decode_mask(row["mask"]),
            None if segmenter is None else prompt_to_verify(row["prompt"]),
            seed=row["seed"],
            config=removal,
        )
        for row, photo in todo
    ]
    results = run_side_by_side(
        runs, lambda calls: each_or_error(lambda some: answer_calls(some, segmenter, inpainter, fill), calls)
    )
    for (row, photo), filled in zip(todo, results, strict=True):
        if isinstance(filled, Exception):
            _fail(row, filled, "inpaint_failed")
            continue
        try:
            row |= {"image": encode_like(photo, filled.image), "mask": None}
        except Exception as error:  # metadata that its own format cannot hold, and whatever else
            _fail(row, error, "encode_failed")
            continue
        row |= {"verified": filled.verified, "verify_score": filled.verify_score}
        row |= {"attempts": len(filled.attempts), "kept_seed": filled.seed, "status": "ok"}
        # Each waited for all of them.
        row |= {f"{step}_seconds": seconds / len(todo) for step, seconds in filled.seconds.items()}
        row["output"] = output_name(row["input_id"], photo.format)
    return rows


def write(rows: list[Row], out: Path) -> list[Row]:
    """Writes the results, and removes what an earlier run had written of inputs that have none now."""
    for row in rows:
        if row["failure"]:
            continue
        data, row["image"], row["mask"] = row["image"], None, None
        try:
            if row["status"] == "ok":
                write_output(out, row["output"], data)
                row["output_sha256"] = hashlib.sha256(data).hexdigest()
            remove_outputs(out, row["input_id"], but=row["output"])
        except OSError as error:
            row["output"] = ""
            _fail(row, error, "not_written")
    return rows


def _decoded(rows: list[Row]) -> list[tuple[Row, Photo]]:
    """Decodes the photos of rows that are not finished; those that cannot be decoded are, then."""
    todo = []
    for row in rows:
        if row["status"] or row["failure"]:
            continue
        try:
            photo = decode_photo(row["image"])
        except ImageError as error:
            _fail(row, error, "")
            continue
        row["height"], row["width"] = photo.image.shape[:2]
        todo.append((row, photo))
    return todo


def _take_mask(row: Row, mask: np.ndarray, *, found: bool) -> None:
    if not found:
        row |= {"status": "not_found", "reason": "not_found", "image": None, "mask": None}
        row["message"] = f"nothing found for {row['prompt']!r}"
        return
    row["mask_fraction"] = float(np.count_nonzero(mask) / mask.size)
    row["mask"] = encode_mask(mask)


def _fail(row: Row, error: Exception, reason: str) -> None:
    """Finishes a row with an error; `reason` is for errors that carry none."""
    if isinstance(error, UserError):
        reason, message = getattr(error, "reason", error.code), str(error)
    else:
        message = f"{type(error).__name__}: {error}"
    row |= {
        "status": "error",
        "reason": reason,
        "message": " ".join(message.split()),
        "image": None,
        "mask": None,
    }
