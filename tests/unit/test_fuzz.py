"""Five hundred rows of rubbish among good ones: every one is counted, none stops the shard."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from textremove.images import encode_image, encode_mask
from textremove.pipe.shard import ShardTask, prepare_shard
from textremove.pipe.source import Shard, choose_rows, read_masks
from textremove.schema import PIPE_MASKS_SCHEMA, PIPE_SCHEMA, SPLITS
from textremove.storage import open_store

NUM_FUZZED, NUM_GOOD = 500, 20


def _huge_png() -> bytes:
    """A file of some fifty bytes that claims ten thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def _odd_pictures(rng: np.random.Generator) -> list[bytes]:
    """Files that are pictures, but not as one would expect them."""
    pixels = rng.integers(0, 255, (24, 24, 3), np.uint8)
    files = []
    for mode, kind in (("CMYK", "JPEG"), ("P", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("1", "PNG")):
        buffer = io.BytesIO()
        source = Image.fromarray(pixels)
        picture = (
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
            if mode == "I;16"
            else source.convert(mode)
        )
        picture.save(buffer, kind)
        files.append(buffer.getvalue())
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "GIF", save_all=True, append_images=[Image.fromarray(255 - pixels)])
    return [*files, buffer.getvalue()]


def _fuzzed(rng: np.random.Generator, row: dict[str, Any], odd: list[bytes], good: bytes) -> dict[str, Any]:
    damage = {
        "random": rng.bytes(int(rng.integers(0, 400))),
        "cut": good[: int(rng.integers(1, len(good)))],
        "flipped": bytes(b ^ int(x) for b, x in zip(good, (rng.random(len(good)) < 0.02) * 255, strict=True)),
        "huge": _huge_png(),
        "odd": odd[int(rng.integers(len(odd)))],
        "text": b"<html>404</html>",
    }
    column = str(
        rng.choice(["source_img", "target_img", "Instruction_Class", "object_location", "img_id", "swap"])
    )
    if column == "swap":
        return row | {"source_img": row["target_img"], "target_img": {"bytes": b"cup", "path": "x"}}
    if column.endswith("_img"):
        bytes_ = damage[str(rng.choice(list(damage)))] if rng.random() < 0.9 else None
        return row | {column: {"bytes": bytes_, "path": None} if rng.random() < 0.95 else None}
    words = [None, "", " ", "add a", "\u0000", "x" * 10_000, "ADD A\tCUP", "🦊", "at the at the"]
    return row | {column: words[int(rng.integers(len(words)))]}


def test_rubbish_is_counted_and_never_stops_the_shard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    odd, good = _odd_pictures(rng), encode_image(rng.integers(0, 255, (24, 24, 3), np.uint8), format="jpeg")
    cell = {"bytes": good, "path": None}
    keys = [
        {"target_img_dataset": "COCO", "img_id": f"{k}", "ann_id": f"{k}"}
        for k in range(NUM_FUZZED + NUM_GOOD)
    ]
    plain = {
        "source_img": cell,
        "target_img": cell,
        "Instruction_Class": "add a cup",
        "object_location": " at the left",
    }
    rows = [plain | key for key in keys]
    rows[:NUM_FUZZED] = [_fuzzed(rng, row, odd, good) for row in rows[:NUM_FUZZED]]
    mask = encode_mask(np.full((24, 24), 255, np.uint8))
    masks = [{"mask": {"bytes": mask, "path": None}} | key for key in keys]
    for k in range(0, NUM_FUZZED, 5):
        masks[k]["mask"] = {
            "bytes": [b"", mask[:30], rng.bytes(90), _huge_png(), odd[0]][k // 5 % 5],
            "path": None,
        }
    for name, table, schema in (("images", rows, PIPE_SCHEMA), ("masks", masks, PIPE_MASKS_SCHEMA)):
        pq.write_table(pa.Table.from_pylist(table, schema=schema), tmp_path / f"{name}.parquet")
    store = open_store(tmp_path / "out")
    for split in SPLITS:
        store.make(f"split={split}")
    images, mask_shard = (Shard(store=open_store(tmp_path), name=f"{n}.parquet") for n in ("images", "masks"))
    task = ShardTask(index=0, source=choose_rows([images])[0], resolution=16)

    summary = prepare_shard(task, [read_masks(mask_shard)], store)

    assert summary.rows_read == NUM_FUZZED + NUM_GOOD
    assert summary.examples.num_rows + summary.rejected.counts.total() == summary.rows_read
    kept = set(summary.examples["example_id"].to_pylist())
    assert {f"COCO/{k}/{k}" for k in range(NUM_FUZZED, NUM_FUZZED + NUM_GOOD)} <= kept
    assert summary.rejected.counts.total() > 200
    assert not [reason for reason in summary.rejected.counts if reason.startswith("unexpected")]
    assert {"image_too_large", "image_truncated", "image_not_an_image", "mask_missing", "key_missing"} <= set(
        summary.rejected.counts
    )
