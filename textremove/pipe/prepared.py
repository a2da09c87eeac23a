"""Reading a folder of prepared examples, without Ray.

A prepared folder holds `dataset.json`, which says what is in it and what became of every source row,
and `split=<name>/part-XXXXX.parquet` with the columns of `textremove.schema.EXAMPLE_SCHEMA`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from textremove.errors import DatasetError
from textremove.schema import SCHEMA_VERSION, SPLITS

DATASET_FILE = "dataset.json"
_ROWS_PER_READ = 32  # photos of a few hundred kB: some megabytes in memory at a time


def read_dataset_info(path: Path | str) -> dict[str, Any]:
    """Reads a prepared folder's dataset.json.

    Raises:
        DatasetError: There is no such folder, or it was not written by prepare_pipe of this version.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"there is no prepared folder {folder}; make one with python -m jobs.prepare_pipe")
    try:
        info: dict[str, Any] = json.loads((folder / DATASET_FILE).read_text())
    except FileNotFoundError:
        raise DatasetError(
            f"{folder} has no {DATASET_FILE}, so it is no prepared folder; "
            f"make one with python -m jobs.prepare_pipe"
        ) from None
    except ValueError as error:
        raise DatasetError(
            f"{folder / DATASET_FILE} is not JSON ({error}); prepare the folder again"
        ) from None
    if info.get("schema_version") != SCHEMA_VERSION:
        raise DatasetError(
            f"{folder} has schema version {info.get('schema_version')}, and this software reads "
            f"{SCHEMA_VERSION}; prepare the folder again"
        )
    return info


def prepared_files(path: Path | str, *, split: str | None = None) -> list[Path]:
    """Lists the parquet files of one split in a fixed order, or of all splits for None.

    Raises:
        DatasetError: The folder is not a prepared one, there is no such split, or it is empty.
    """
    if split is not None and split not in SPLITS:
        raise DatasetError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
    info = read_dataset_info(path)
    files = [Path(path) / entry["path"] for entry in info["files"] if split in (None, entry["split"])]
    if not files:
        sizes = ", ".join(f"{name} {info['splits'][name]['examples']}" for name in SPLITS)
        raise DatasetError(f"{path} has no {split or ''} examples ({sizes}); prepare more rows")
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DatasetError(f"{missing[0]} is gone, though {DATASET_FILE} lists it; prepare the folder again")
    return files


def count_prepared(path: Path | str, *, split: str | None = None) -> int:
    """Counts the examples of one split, or of all for None, from dataset.json."""
    splits = read_dataset_info(path)["splits"]
    return sum(splits[name]["examples"] for name in SPLITS if split in (None, name))


def prepared_rows(
    path: Path | str, *, split: str | None = None, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the examples of one split, or of all for None, always in the same order.

    Args:
        path: The prepared folder.
        split: One of SPLITS.
        columns: Which columns of EXAMPLE_SCHEMA to read; leaving out the pictures is much faster.

    Raises:
        DatasetError: As `prepared_files`, at once and not at the first row.
    """
    return _iterate(prepared_files(path, split=split), columns)


def _iterate(files: list[Path], columns: list[str] | None) -> Iterator[dict[str, Any]]:
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):  # see textremove.pipe.source.read_rows
                for batch in parquet.iter_batches(_ROWS_PER_READ, row_groups=[group], columns=columns):
                    yield from batch.to_pylist()
