from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textremove.errors import DatasetError
from textremove.pipe.prepared import (
    DATASET_FILE,
    count_prepared,
    prepared_files,
    prepared_rows,
    read_dataset_info,
)
from textremove.schema import EXAMPLE_SCHEMA, SCHEMA_VERSION


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Three training examples in two files and two of validation; no test split."""
    files = []
    for split, part, ids in (("train", 0, ["a", "b"]), ("train", 1, ["c"]), ("val", 0, ["d", "e"])):
        path = tmp_path / f"split={split}" / f"part-{part:05d}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows = [{"example_id": name, "split": split, "image": b"i", "height": 4} for name in ids]
        pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), path)
        files.append({"path": str(path.relative_to(tmp_path)), "split": split, "examples": len(ids)})
    info = {
        "schema_version": SCHEMA_VERSION,
        "splits": {"train": {"examples": 3}, "val": {"examples": 2}, "test": {"examples": 0}},
        "files": files,
    }
    (tmp_path / DATASET_FILE).write_text(json.dumps(info))
    return tmp_path


def test_rows_come_in_order_with_all_columns(prepared: Path) -> None:
    rows = list(prepared_rows(prepared, split="train"))
    assert [row["example_id"] for row in rows] == ["a", "b", "c"]
    assert list(rows[0]) == EXAMPLE_SCHEMA.names
    assert [row["example_id"] for row in prepared_rows(prepared)] == ["a", "b", "c", "d", "e"]


def test_some_columns_only(prepared: Path) -> None:
    assert next(iter(prepared_rows(prepared, split="val", columns=["example_id"]))) == {"example_id": "d"}


def test_counting(prepared: Path) -> None:
    assert (count_prepared(prepared, split="train"), count_prepared(prepared)) == (3, 5)


def test_mistakes_get_one_line_each_at_once(prepared: Path) -> None:
    with pytest.raises(DatasetError, match=r"no prepared folder .*nowhere"):
        prepared_rows(prepared / "nowhere")
    with pytest.raises(DatasetError, match="no split 'training'; the splits are train, val, test"):
        prepared_rows(prepared, split="training")
    with pytest.raises(DatasetError, match=r"no test examples \(train 3, val 2, test 0\)"):
        prepared_rows(prepared, split="test")
    (prepared / "split=val" / "part-00000.parquet").unlink()
    with pytest.raises(DatasetError, match=r"part-00000.parquet is gone"):
        prepared_files(prepared, split="val")


def test_a_folder_of_something_else_is_refused(prepared: Path) -> None:
    file = prepared / DATASET_FILE
    file.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(DatasetError, match=f"schema version {SCHEMA_VERSION + 1}"):
        read_dataset_info(prepared)
    file.write_text("{")
    with pytest.raises(DatasetError, match="not JSON"):
        read_dataset_info(prepared)
    file.unlink()
    with pytest.raises(DatasetError, match=r"no dataset.json"):
        read_dataset_info(prepared)
