from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textremove.onray.feeding import COLUMNS, Share
from textremove.onray.row_files import RowFiles
from textremove.onray.windows import Order, WindowReader
from textremove.onray.workers import Place
from textremove.pipe.prepared import DATASET_FILE
from textremove.schema import EXAMPLE_SCHEMA, SCHEMA_VERSION

FILES = {"part-00000": 130, "part-00001": 7, "part-00002": 700, "part-00003": 64}  # rows
NUM_ROWS = sum(FILES.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder whose "images" say which row they are."""
    out = tmp_path_factory.mktemp("rows")
    (out / "split=train").mkdir()
    files, first = [], 0
    for name, count in FILES.items():
        rows = range(first, first + count)
        columns = {
            column.name: pa.nulls(count, column.type)
            for column in EXAMPLE_SCHEMA
            if column.name not in ("image", "mask", "prompt")
        }
        columns |= {"image": pa.array([str(k).encode() for k in rows], EXAMPLE_SCHEMA.field("image").type)}
        columns |= {"mask": columns["image"], "prompt": pa.array([f"thing {k} at the left" for k in rows])}
        pq.write_table(pa.table(columns), out / "split=train" / f"{name}.parquet", row_group_size=48)
        files.append({"path": f"split=train/{name}.parquet", "split": "train", "examples": count})
        first += count
    info = {
        "schema_version": SCHEMA_VERSION,
        "files": files,
        "splits": {
            split: {"examples": NUM_ROWS if split == "train" else 0} for split in ("train", "val", "test")
        },
    }
    (out / DATASET_FILE).write_text(json.dumps(info))
    return out


def epoch_of(folder: Path, order: Order, epoch: int) -> list[int]:
    reader = WindowReader(RowFiles.of_training(str(folder), COLUMNS), order)
    tables = [reader.read(epoch, number) for number in range(reader.num_windows)]
    rows = pa.concat_tables(tables)
    assert rows["prompt"].to_pylist() == [f"thing {int(i)} at the left" for i in rows["image"].to_pylist()]
    return [int(image) for image in rows["image"].to_pylist()]


def test_an_epoch_has_every_row_and_is_filled_up_to_whole_batches(folder: Path) -> None:
    order = Order(num_rows=NUM_ROWS, batch_size=32, seed=3)
    seen = Counter(epoch_of(folder, order, 1))
    assert seen.keys() == set(range(NUM_ROWS))
    assert sum(seen.values()) == order.num_steps * 32 == 928
    assert sorted(seen.values(), reverse=True)[: 928 - NUM_ROWS] == [2] * (928 - NUM_ROWS)
    assert max(seen.values()) == 2


def test_epochs_differ_and_come_again_by_their_number_alone(folder: Path) -> None:
    order = Order(num_rows=NUM_ROWS, batch_size=32, seed=3)
    first, second = epoch_of(folder, order, 1), epoch_of(folder, order, 2)
    assert first != second
    assert epoch_of(folder, order, 2) == second
    assert epoch_of(folder, Order(num_rows=NUM_ROWS, batch_size=32, seed=4), 2) != second


def test_batches_are_drawn_from_places_far_apart(folder: Path) -> None:
    order = Order(num_rows=NUM_ROWS, batch_size=32, seed=3)
    batches = np.array(epoch_of(folder, order, 1)).reshape(-1, 32)
    neighbours = (np.diff(np.sort(batches), axis=1) == 1).mean(axis=1)
    assert neighbours.max() < 0.5  # read in order, it would be 1
    assert (np.ptp(batches, axis=1) > 300).all()


@pytest.mark.parametrize("num_rows", [1, 5, 31, 32, 33, 100])
def test_few_rows_still_make_whole_batches(num_rows: int) -> None:
    order = Order(num_rows=num_rows, batch_size=32, seed=0)
    rows = order.shuffled(1)
    assert len(rows) % 32 == 0
    assert set(rows.tolist()) == set(range(num_rows))
    counts = np.bincount(rows)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("size", "together"), [(1, 24), (1, 6), (2, 12), (2, 4), (3, 8), (4, 3), (24, 1)])
def test_shares_make_up_the_batch_whatever_the_number_of_workers(size: int, together: int) -> None:
    shares = [
        Share(place=Place(rank=rank, size=size), batch_size=24, together=together) for rank in range(size)
    ]
    assert {share.num_rows for share in shares} == {24 // size}
    positions = np.concatenate([share.positions() for share in shares])
    assert sorted(positions.tolist()) == list(range(24))


def test_blocks_are_bounded_and_divide_the_share() -> None:
    order = Order(num_rows=NUM_ROWS, batch_size=256, seed=0)
    shares = [Share.of(Place(rank=0, size=size), order, most=16) for size in (1, 4, 32)]
    assert [share.together for share in shares] == [16, 16, 8]
    assert Share.of(Place(rank=0, size=1), Order(num_rows=9, batch_size=34, seed=0), most=16).together == 2
