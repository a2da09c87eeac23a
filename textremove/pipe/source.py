"""The parquet shards of PIPE and PIPE_Masks: finding them, their keys, and the masks by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from textremove.errors import DatasetError
from textremove.schema import KEY_COLUMNS

IMAGE_COLUMNS = ("source_img", "target_img", "Instruction_Class", "object_location", *KEY_COLUMNS)
"""What is used of PIPE_SCHEMA; the other instruction columns may be missing."""

MASK_COLUMNS = ("mask", *KEY_COLUMNS)

_PICTURE_COLUMNS = ("source_img", "target_img", "mask")
_ROWS_PER_READ = 32


@dataclass(frozen=True, kw_only=True)
class PickedMask:
    """The mask of one key: its PNG bytes (None when the cell is null) and how many rows had that key."""

    data: bytes | None
    num_rows: int


def find_shards(folder: Path | str, columns: Sequence[str]) -> list[Path]:
    """Finds the parquet files in and below a folder, in the order of their names.

    Args:
        folder: The folder, as downloaded from the hub; a single parquet file will do too.
        columns: Columns that every file must have.

    Raises:
        DatasetError: No such folder, no parquet in it, or a file that is no parquet or has other columns.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DatasetError(f"there is no folder {folder}; give the one that holds the parquet shards")
    shards = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
    if not shards:
        raise DatasetError(
            f"there is no .parquet file in or below {folder}; give the folder that holds the shards"
        )
    for shard in shards:
        _check_columns(shard, columns)
    return shards


def read_keys(shard: Path) -> pa.Array:
    """Reads the keys "<dataset>/<img_id>/<ann_id>" of a shard, null where a part of one is null."""
    with _one_line_errors(shard), pq.ParquetFile(shard) as parquet:
        return _keys(parquet.read(columns=list(KEY_COLUMNS)))


def read_rows(shard: Path | str, *, num_rows: int) -> Iterator[dict[str, Any]]:
    """Yields the first rows of an image shard, holding a few at a time in memory.

    Raises:
        DatasetError: The file is damaged in the middle.
    """
    with _one_line_errors(shard), pq.ParquetFile(shard) as parquet:
        # Over all row groups at once Arrow keeps every one it has passed: the whole shard, in the end.
        for group in range(parquet.num_row_groups):
            for batch in parquet.iter_batches(
                _ROWS_PER_READ, row_groups=[group], columns=list(IMAGE_COLUMNS)
            ):
                yield from batch.slice(0, num_rows).to_pylist()
                num_rows -= batch.num_rows
                if num_rows <= 0:
                    return


def read_masks(shard: Path | str) -> pa.Table:
    """Reads a whole mask shard: columns "key" (string) and "mask" (encoded bytes)."""
    with _one_line_errors(shard), pq.ParquetFile(shard) as parquet:
        table = parquet.read(columns=list(MASK_COLUMNS))
    masks = pc.struct_field(table["mask"], "bytes")
    return pa.table({"key": pa.chunked_array([_keys(table)]), "mask": masks})


def pick_masks(tables: Sequence[pa.Table], keys: pa.Array) -> dict[str, PickedMask]:
    """Looks up the masks of some keys; of a key's several rows the first counts.

    Args:
        tables: All mask shards, in order, as `read_masks` gives them.
        keys: The keys asked for.
    """
    wanted = keys.drop_null()
    picked: dict[str, PickedMask] = {}
    for table in tables:
        for row in table.filter(pc.is_in(table["key"], value_set=wanted)).to_pylist():
            earlier = picked.get(row["key"])
            picked[row["key"]] = PickedMask(
                data=earlier.data if earlier else row["mask"],
                num_rows=earlier.num_rows + 1 if earlier else 1,
            )
    return picked


def _keys(table: pa.Table) -> pa.Array:
    parts = [table[name].cast(pa.string()).combine_chunks() for name in KEY_COLUMNS]
    return pc.binary_join_element_wise(*parts, "/")


def _check_columns(shard: Path, columns: Sequence[str]) -> None:
    with _one_line_errors(shard):
        schema = pq.read_schema(shard)
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise DatasetError(
            f"{shard} has no column {', '.join(missing)}; it has {', '.join(schema.names) or 'none'}"
        )
    for name in set(columns) & set(_PICTURE_COLUMNS):
        kind = schema.field(name).type
        if not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            raise DatasetError(f"column {name} of {shard} is {kind}, not a struct with a field 'bytes'")


@contextmanager
def _one_line_errors(shard: Path | str) -> Iterator[None]:
    """Turns what Arrow says about a damaged file into a line for the user."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise DatasetError(
            f"{shard} cannot be read as parquet ({said}); fetch it again or remove it"
        ) from error
