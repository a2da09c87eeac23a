"""Reading a folder of prepared examples, without Ray.

A prepared folder holds `dataset.json`, which says what is in it and what became of every source row,
and `split=<name>/part-XXXXX-XXX.parquet` with the columns of `textremove.schema.EXAMPLE_SCHEMA`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from textremove.errors import DatasetError
from textremove.schema import SCHEMA_VERSION, SPLITS
from textremove.storage import Store, open_store

DATASET_FILE = "dataset.json"
_ROWS_PER_READ = 32  # photos of a few hundred kB: some megabytes in memory at a time


def read_dataset_info(path: Path | str) -> dict[str, Any]:
    """Reads a prepared folder's dataset.json.

    Raises:
        DatasetError: There is no such folder, or it was not written by prepare_pipe of this version.
    """
    folder = open_store(path)
    if not folder.exists():
        raise DatasetError(f"there is no prepared folder {path}; make one with python -m jobs.prepare_pipe")
    try:
        info: dict[str, Any] = json.loads(folder.read(DATASET_FILE))
    except FileNotFoundError:
        raise DatasetError(
            f"{path} has no {DATASET_FILE}, so it is no prepared folder; "
            f"make one with python -m jobs.prepare_pipe"
        ) from None
    except ValueError as error:
        raise DatasetError(
            f"{folder.location}/{DATASET_FILE} is not JSON ({error}); prepare the folder again"
        ) from None
    if info.get("schema_version") != SCHEMA_VERSION:
        raise DatasetError(
            f"{path} has schema version {info.get('schema_version')}, and this software reads "
            f"{SCHEMA_VERSION}; prepare the folder again"
        )
    return info


def prepared_files(path: Path | str, *, split: str | None = None) -> list[str]:
    """Lists the parquet files of one split in a fixed order, or of all splits for None.

    Returns:
        Paths on the file system of `open_store(path)`.

    Raises:
        DatasetError: The folder is not a prepared one, there is no such split, or it is empty.
    """
    if split is not None and split not in SPLITS:
        raise DatasetError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
    info, folder = read_dataset_info(path), open_store(path)
    names = [entry["path"] for entry in info["files"] if split in (None, entry["split"])]
    if not names:
        sizes = ", ".join(f"{name} {info['splits'][name]['examples']}" for name in SPLITS)
        raise DatasetError(f"{path} has no {split or ''} examples ({sizes}); prepare more rows")
    missing = sorted(set(names) - set(folder.files(".parquet")))
    if missing:
        raise DatasetError(
            f"{path}/{missing[0]} is gone, though {DATASET_FILE} lists it; prepare the folder again"
        )
    return [folder.path(name) for name in names]


def check_truth(path: Path | str) -> None:
    """Complains about a folder whose examples have no photo without the object.

    Raises:
        DatasetError: It was prepared from photos, masks and prompts alone.
    """
    if not read_dataset_info(path).get("settings", {}).get("with_truth", True):
        raise DatasetError(
            f"{path} has no photos without the object, so no inpainter can learn from it or be scored on it; "
            f"prepare it with a truth column, or use it for the segmenter"
        )


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
    return _iterate(open_store(path), prepared_files(path, split=split), columns)


def _iterate(folder: Store, files: list[str], columns: list[str] | None) -> Iterator[dict[str, Any]]:
    for name in files:
        with folder.filesystem.open_input_file(name) as file, pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):  # see textremove.pipe.source
                for batch in parquet.iter_batches(_ROWS_PER_READ, row_groups=[group], columns=columns):
                    yield from batch.to_pylist()
