"""From parquet shards to part files, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textremove.errors import DatasetError
from textremove.images import encode_image, encode_mask
from textremove.pipe.shard import MAX_SAMPLES, ShardTask, prepare_shard
from textremove.pipe.source import (
    IMAGE_COLUMNS,
    MASK_COLUMNS,
    find_shards,
    pick_masks,
    read_keys,
    read_masks,
    read_rows,
)
from textremove.pipe.summary import dataset_info, describe
from textremove.schema import EXAMPLE_SCHEMA, PIPE_MASKS_SCHEMA, PIPE_SCHEMA, SPLITS

PICTURE = {"bytes": encode_image(np.full((8, 8, 3), 90, np.uint8)), "path": None}
MASK = {"bytes": encode_mask(np.full((8, 8), 255, np.uint8)), "path": None}


def image_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "source_img": PICTURE,
        "target_img": PICTURE,
        "Instruction_Class": "add a cup",
        "object_location": " at the left",
        "target_img_dataset": "COCO",
        "img_id": str(number // 2),  # two objects to a photo
        "ann_id": str(number),
    }
    return row | changes


def mask_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "mask": MASK,
        "target_img_dataset": "COCO",
        "img_id": str(number // 2),
        "ann_id": str(number),
    } | changes


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for split in SPLITS:
        (tmp_path / "out" / f"split={split}").mkdir(parents=True)
    return tmp_path / "out"


def task_of(shard: Path, **changes: Any) -> ShardTask:
    return ShardTask(**({"index": 3, "path": str(shard), "keys": read_keys(shard)} | changes))


def test_shards_are_found_below_a_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "data" / f"{name}.parquet", [image_row(1)], PIPE_SCHEMA)
    (tmp_path / "data" / "notes.txt").write_text("no shard")
    assert [shard.name for shard in find_shards(tmp_path, IMAGE_COLUMNS)] == ["a.parquet", "b.parquet"]


def test_wrong_folders_get_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is no folder .*nowhere"):
        find_shards(tmp_path / "nowhere", IMAGE_COLUMNS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no .parquet file in or below .*empty"):
        find_shards(tmp_path / "empty", IMAGE_COLUMNS)
    write(tmp_path / "masks" / "a.parquet", [mask_row(1)], PIPE_MASKS_SCHEMA)
    with pytest.raises(
        DatasetError,
        match="has no column source_img, target_img, Instruction_Class, object_location; it has mask",
    ):
        find_shards(tmp_path / "masks", IMAGE_COLUMNS)
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.parquet").write_bytes(b"this is no parquet file at all")
    with pytest.raises(DatasetError, match=r"a.parquet cannot be read as parquet"):
        find_shards(tmp_path / "junk", IMAGE_COLUMNS)
    flat = pa.schema([("mask", pa.binary()), *((name, pa.string()) for name in MASK_COLUMNS[1:])])
    write(tmp_path / "flat" / "a.parquet", [mask_row(1, mask=b"x")], flat)
    with pytest.raises(DatasetError, match=r"column mask of .* is binary, not a struct"):
        find_shards(tmp_path / "flat", MASK_COLUMNS)


def test_masks_are_picked_by_key_and_the_first_of_two_counts(tmp_path: Path) -> None:
    other = {"bytes": b"other", "path": None}
    tables = [
        read_masks(write(tmp_path / "0.parquet", [mask_row(5), mask_row(2, mask=other)], PIPE_MASKS_SCHEMA)),
        read_masks(write(tmp_path / "1.parquet", [mask_row(2), mask_row(9, ann_id=None)], PIPE_MASKS_SCHEMA)),
    ]
    picked = pick_masks(tables, pa.array(["COCO/1/2", "COCO/2/5", "COCO/0/0", None]))
    assert set(picked) == {"COCO/1/2", "COCO/2/5"}
    assert (picked["COCO/1/2"].data, picked["COCO/1/2"].num_rows) == (b"other", 2)
    assert picked["COCO/2/5"].num_rows == 1


def test_bad_rows_are_counted_and_the_others_written(tmp_path: Path, out: Path) -> None:
    rows = [image_row(number) for number in range(40)]
    rows[0] = image_row(0, Instruction_Class="add")
    rows[1] = image_row(1, target_img={"bytes": b"junk", "path": None})
    rows[2] = image_row(2, img_id=None)
    shard = write(tmp_path / "s.parquet", rows, PIPE_SCHEMA)
    masks = [mask_row(number) for number in reversed(range(40)) if number != 3] + [mask_row(4)]
    table = read_masks(write(tmp_path / "m.parquet", masks, PIPE_MASKS_SCHEMA))

    summary = prepare_shard(task_of(shard, repeats=frozenset({39})), [table], out)

    assert summary.rows_read == 40
    assert summary.examples == 35
    assert summary.rejected.counts == {
        "prompt_too_short": 1,
        "image_not_an_image": 1,
        "key_missing": 1,
        "mask_missing": 1,
        "row_repeated": 1,
    }
    assert summary.rejected.samples["mask_missing"] == ["COCO/1/3"]
    assert summary.rejected.samples["key_missing"] == ["row 2 of s.parquet"]
    assert summary.notes.counts == {"mask_duplicate": 1}
    assert summary.notes.samples["mask_duplicate"] == ["COCO/2/4"]
    assert summary.classes == {"cup": 35}
    assert summary.places == {"left": 35}
    written = [
        row
        for file in summary.files
        for row in pq.read_table(out / file["path"], partitioning=None).to_pylist()
    ]
    assert len(written) == 35
    for file in summary.files:
        table = pq.read_table(out / file["path"], partitioning=None)
        assert table.schema.equals(EXAMPLE_SCHEMA)
        assert set(table["split"].to_pylist()) == {file["split"]}
        assert table.num_rows == file["examples"]


def test_a_surprise_in_a_row_does_not_stop_the_shard(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprising(row: dict[str, Any], mask: bytes | None, *, resolution: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("textremove.pipe.shard.example_from_row", surprising)
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(8)], PIPE_SCHEMA)
    summary = prepare_shard(task_of(shard), [], out)
    assert summary.rejected.counts == {"unexpected_zerodivisionerror": 8}
    assert len(summary.rejected.samples["unexpected_zerodivisionerror"]) == MAX_SAMPLES


def test_doing_a_shard_again_writes_the_same_bytes(tmp_path: Path, out: Path) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(30)], PIPE_SCHEMA)
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(30)], PIPE_MASKS_SCHEMA))
    once = prepare_shard(task_of(shard), [table], out)
    again = prepare_shard(task_of(shard), [table], out)
    assert once.files == again.files


def test_only_the_rows_of_the_task_are_used(tmp_path: Path, out: Path) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(50)], PIPE_SCHEMA)
    summary = prepare_shard(task_of(shard, keys=read_keys(shard)[:37]), [], out)
    assert summary.rows_read == 37


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    shard = tmp_path / "s.parquet"
    size, num_groups = 2**20, 24
    with pq.ParquetWriter(shard, PIPE_SCHEMA, compression="NONE") as writer:
        for number in range(num_groups):
            data = np.random.default_rng(number).bytes(size)
            row = image_row(number, target_img={"bytes": data, "path": None})
            writer.write_table(pa.Table.from_pylist([row], schema=PIPE_SCHEMA))
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() for _ in read_rows(shard, num_rows=num_groups)]
    assert len(held) == num_groups
    assert max(held) - before < 4 * size


def test_a_shard_cut_off_in_the_middle_is_named(tmp_path: Path, out: Path) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(50)], PIPE_SCHEMA)
    task = task_of(shard)
    data = bytearray(shard.read_bytes())
    data[4:400] = bytes(396)  # the footer stays whole
    shard.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match=r"s.parquet cannot be read as parquet"):
        prepare_shard(task, [], out)


def test_summaries_add_up_in_any_order(tmp_path: Path, out: Path) -> None:
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(60)], PIPE_MASKS_SCHEMA))
    summaries = []
    for index in (0, 1):
        rows = [image_row(30 * index + number) for number in range(30)]
        rows[index] = image_row(30 * index + index, object_location="", Instruction_Class="add")
        shard = write(tmp_path / f"{index}.parquet", rows, PIPE_SCHEMA)
        summaries.append(prepare_shard(task_of(shard, index=index), [table], out))
    info = dataset_info(summaries, out, {"limit": 0})
    assert info == dataset_info(summaries[::-1], out, {"limit": 0})
    assert (info["rows_read"], info["examples_kept"]) == (60, 58)
    assert info["rejected"] == {"prompt_too_short": {"count": 2, "samples": ["COCO/0/0", "COCO/15/31"]}}
    assert sum(sizes["examples"] for sizes in info["splits"].values()) == 58
    assert sum(sizes["photos"] for sizes in info["splits"].values()) == 30
    assert info["photos_in_two_splits"] == 0
    text = describe(info)
    assert "60 rows read, 58 examples kept" in text
    assert "prompt_too_short  (COCO/0/0, COCO/15/31)" in text


def test_a_photo_in_two_splits_would_be_seen(tmp_path: Path, out: Path) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(30)], PIPE_SCHEMA)
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(30)], PIPE_MASKS_SCHEMA))
    summary = prepare_shard(task_of(shard), [table], out)
    train, other = (
        next(f for f in summary.files if (f["split"] == "train") == is_train) for is_train in (True, False)
    )
    (out / other["path"]).write_bytes((out / train["path"]).read_bytes())  # a leak
    info = dataset_info([summary], out, {})
    assert info["photos_in_two_splits"] == info["splits"]["train"]["photos"] > 0
