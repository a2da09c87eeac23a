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
from textremove.pipe.duplicates import find_duplicates
from textremove.pipe.parts import rewrite_without
from textremove.pipe.shard import MAX_SAMPLES, STOP_FILE, ShardSummary, ShardTask, Stopped, prepare_shard
from textremove.pipe.source import (
    IMAGE_COLUMNS,
    MASK_COLUMNS,
    Shard,
    choose_rows,
    find_shards,
    pick_masks,
    read_masks,
)
from textremove.pipe.summary import dataset_info, describe
from textremove.pipe.unfinished import UnfinishedFolder
from textremove.schema import EXAMPLE_SCHEMA, PIPE_MASKS_SCHEMA, PIPE_SCHEMA, SPLITS
from textremove.storage import Store, open_store

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


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema, **options: Any) -> Shard:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)
    return Shard(store=open_store(path.parent), name=path.name)


@pytest.fixture
def out(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "out")
    for name in (*(f"split={split}" for split in SPLITS), "_shards"):
        store.make(name)
    return store


def task_of(*shards: Shard, limit: int = 0, **changes: Any) -> ShardTask:
    """The task of the last of some shards, which with the others makes up a dataset."""
    return ShardTask(**({"index": 3, "source": choose_rows(shards, limit=limit)[-1]} | changes))


def read(out: Store, file: dict[str, Any]) -> pa.Table:
    return pq.read_table(out.path(file["path"]), partitioning=None)


def test_shards_are_found_below_a_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "data" / f"{name}.parquet", [image_row(1)], PIPE_SCHEMA)
    (tmp_path / "data" / "notes.txt").write_text("no shard")
    names = [shard.name for shard in find_shards(tmp_path, IMAGE_COLUMNS)]
    assert names == ["data/a.parquet", "data/b.parquet"]


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


def test_bad_rows_are_counted_and_the_others_written(tmp_path: Path, out: Store) -> None:
    rows = [image_row(number) for number in range(40)]
    rows[0] = image_row(0, Instruction_Class="add")
    rows[1] = image_row(1, target_img={"bytes": b"junk", "path": None})
    rows[2] = image_row(2, img_id=None)
    shard = write(tmp_path / "s.parquet", rows, PIPE_SCHEMA)
    masks = [mask_row(number) for number in reversed(range(40)) if number != 3] + [mask_row(4)]
    table = read_masks(write(tmp_path / "m.parquet", masks, PIPE_MASKS_SCHEMA))

    first = write(tmp_path / "first.parquet", [image_row(39)], PIPE_SCHEMA)
    summary = prepare_shard(task_of(first, shard), [table], out)

    assert summary.rows_read == 40
    assert summary.examples.num_rows == 35
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
    assert set(summary.examples["object_class"].to_pylist()) == {"cup"}
    assert set(summary.examples["place"].to_pylist()) == {"left"}
    written = [row for file in summary.files for row in read(out, file).to_pylist()]
    assert len(written) == 35
    for file in summary.files:
        table = read(out, file)
        assert table.schema.equals(EXAMPLE_SCHEMA)
        assert set(table["split"].to_pylist()) == {file["split"]}
        assert table.num_rows == file["examples"]


def test_a_surprise_in_a_row_does_not_stop_the_shard(
    tmp_path: Path, out: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprising(row: dict[str, Any], mask: bytes | None, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("textremove.pipe.shard.example_from_row", surprising)
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(8)], PIPE_SCHEMA)
    summary = prepare_shard(task_of(shard), [], out)
    assert summary.rejected.counts == {"unexpected_zerodivisionerror": 8}
    assert len(summary.rejected.samples["unexpected_zerodivisionerror"]) == MAX_SAMPLES


def test_doing_a_shard_again_writes_the_same_bytes(tmp_path: Path, out: Store) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(30)], PIPE_SCHEMA)
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(30)], PIPE_MASKS_SCHEMA))
    once = prepare_shard(task_of(shard), [table], out)
    again = prepare_shard(task_of(shard), [table], out)
    assert once.files == again.files


def test_a_shard_is_given_up_when_the_job_stops_and_done_when_it_goes_on(tmp_path: Path) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(30)], PIPE_SCHEMA)
    folder = UnfinishedFolder(str(tmp_path / "prepared"), {})
    folder.begin()
    prepare_shard(task_of(shard), [], folder.store).save(folder.store)
    folder.store.write(STOP_FILE, b"")
    with pytest.raises(Stopped):
        prepare_shard(task_of(shard), [], folder.store)
    assert folder.begin() == {3}
    prepare_shard(task_of(shard), [], folder.store)


def test_a_limit_takes_its_share_of_every_shard_and_reads_few_row_groups(tmp_path: Path) -> None:
    shards = [
        write(
            tmp_path / f"{index}.parquet",
            [image_row(1000 * index + number) for number in range(size)],
            PIPE_SCHEMA,
            row_group_size=10,
        )
        for index, size in enumerate((100, 200, 7))
    ]
    chosen = choose_rows(shards, limit=40)
    assert [sum(count for _, count in rows.takes) for rows in chosen] == [13, 26, 1]
    assert [len(rows.takes) for rows in chosen] == [2, 3, 1]
    assert {len(rows.keys) for rows in chosen} == {13, 26, 1}
    groups = [group for group, _ in chosen[1].takes]
    assert groups == sorted(groups) != [0, 1, 2]  # spread, and not simply the first
    names = [row.name for row in chosen[1].rows([])]
    assert names == chosen[1].keys.to_pylist()
    again = choose_rows(shards, limit=40)
    assert [rows.takes for rows in again] == [rows.takes for rows in chosen]
    assert sum(len(rows.keys) for rows in choose_rows(shards, limit=10_000)) == 307


def test_part_files_are_closed_when_they_are_large_enough(tmp_path: Path, out: Store) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(60)], PIPE_SCHEMA)
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(60)], PIPE_MASKS_SCHEMA))
    summary = prepare_shard(task_of(shard, bytes_per_file=2000), [table], out)
    assert sum(file["split"] == "train" for file in summary.files) > 2
    ids = [key for file in summary.files for key in read(out, file)["example_id"].to_pylist()]
    assert sorted(ids) == sorted(summary.examples["example_id"].to_pylist())
    held = {row["example_id"]: row["file"] for row in summary.examples.to_pylist()}
    for file in summary.files:
        assert {held[key] for key in read(out, file)["example_id"].to_pylist()} == {file["path"]}


def test_a_summary_comes_back_from_the_journal_as_it_was(tmp_path: Path, out: Store) -> None:
    rows = [image_row(0, Instruction_Class="add"), *(image_row(number) for number in range(1, 9))]
    shard = write(tmp_path / "s.parquet", rows, PIPE_SCHEMA)
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(9)], PIPE_MASKS_SCHEMA))
    summary = prepare_shard(task_of(shard), [table], out)
    summary.save(out)
    assert ShardSummary.load(out, 3) == summary


def test_a_photo_under_two_ids_is_kept_under_one(tmp_path: Path, out: Store) -> None:
    def photo(number: int) -> dict[str, Any]:
        return {"bytes": encode_image(np.full((8, 8, 3), number, np.uint8)), "path": None}

    rows = [image_row(number, target_img=photo(number // 2)) for number in range(40)]
    rows[6] = image_row(6, target_img=photo(10))  # photo 3, first object: a copy of photo 10
    shard = write(tmp_path / "s.parquet", rows, PIPE_SCHEMA)
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(40)], PIPE_MASKS_SCHEMA))
    summary = prepare_shard(task_of(shard), [table], out)
    duplicates = find_duplicates(summary.examples)
    assert duplicates.to_pylist() == ["COCO/3/6"]  # "COCO/10" comes first in alphabetical order
    held = {row["example_id"]: row["file"] for row in summary.examples.to_pylist()}
    entry = next(file for file in summary.files if file["path"] == held["COCO/3/6"])
    new = rewrite_without(out, entry, duplicates)
    assert new["examples"] == entry["examples"] - 1
    assert new["sha256"] != entry["sha256"]
    assert "COCO/3/6" not in read(out, new)["example_id"].to_pylist()
    assert rewrite_without(out, entry, duplicates) == new  # started again after a crash
    info = dataset_info([summary], out, {}, duplicates=duplicates, rewritten={new["path"]: new})
    assert info["rejected"] == {"photo_duplicate": {"count": 1, "samples": ["COCO/3/6"]}}
    assert (info["rows_read"], info["examples_kept"]) == (40, 39)
    assert sum(sizes["examples"] for sizes in info["splits"].values()) == 39
    assert info["classes"] == {"cup": 39}


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    shard = tmp_path / "s.parquet"
    size, num_groups = 2**20, 24
    with pq.ParquetWriter(shard, PIPE_SCHEMA, compression="NONE") as writer:
        for number in range(num_groups):
            data = np.random.default_rng(number).bytes(size)
            row = image_row(number, target_img={"bytes": data, "path": None})
            writer.write_table(pa.Table.from_pylist([row], schema=PIPE_SCHEMA))
    before = pa.total_allocated_bytes()
    rows = choose_rows([Shard(store=open_store(tmp_path), name=shard.name)])[0]
    held = [pa.total_allocated_bytes() for _ in rows.rows([])]
    assert len(held) == num_groups
    assert max(held) - before < 4 * size


def test_a_shard_cut_off_in_the_middle_is_named(tmp_path: Path, out: Store) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(50)], PIPE_SCHEMA)
    task = task_of(shard)
    path = tmp_path / shard.name
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)  # the footer stays whole
    path.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match=r"s.parquet cannot be read as parquet"):
        prepare_shard(task, [], out)


def test_summaries_add_up_in_any_order(tmp_path: Path, out: Store) -> None:
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


def test_a_photo_in_two_splits_would_be_seen(tmp_path: Path, out: Store) -> None:
    shard = write(tmp_path / "s.parquet", [image_row(number) for number in range(30)], PIPE_SCHEMA)
    table = read_masks(write(tmp_path / "m.parquet", [mask_row(n) for n in range(30)], PIPE_MASKS_SCHEMA))
    summary = prepare_shard(task_of(shard), [table], out)
    train, other = (
        next(f for f in summary.files if (f["split"] == "train") == is_train) for is_train in (True, False)
    )
    out.write(other["path"], out.read(train["path"]))  # a leak
    info = dataset_info([summary], out, {})
    assert info["photos_in_two_splits"] == info["splits"]["train"]["photos"] > 0
