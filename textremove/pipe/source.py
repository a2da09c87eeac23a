"""The parquet shards of PIPE and PIPE_Masks: finding them, which rows to use, and the masks by key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from textremove.errors import DatasetError
from textremove.pipe.rows import key_of
from textremove.schema import KEY_COLUMNS
from textremove.storage import Store, open_store

IMAGE_COLUMNS = ("source_img", "target_img", "Instruction_Class", "object_location", *KEY_COLUMNS)
"""What is used of PIPE_SCHEMA; the other instruction columns may be missing."""

MASK_COLUMNS = ("mask", *KEY_COLUMNS)

_PICTURE_COLUMNS = ("source_img", "target_img", "mask")
_ROWS_PER_READ = 32


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One parquet file.

    Attributes:
        store: The folder it was found in.
        name: Its path within.
    """

    store: Store
    name: str

    def __str__(self) -> str:
        return f"{self.store.location.rstrip('/')}/{self.name}"

    @contextmanager
    def open(self) -> Iterator[pq.ParquetFile]:
        """Opens it; what Arrow says about a damaged file becomes a line for the user."""
        try:
            with (
                self.store.filesystem.open_input_file(self.store.path(self.name)) as file,
                pq.ParquetFile(file) as parquet,
            ):
                yield parquet
        except (OSError, pa.ArrowException) as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise DatasetError(
                f"{self} cannot be read as parquet ({said}); fetch it again or remove it"
            ) from error

    def group_sizes(self) -> list[int]:
        """Rows in each of its row groups."""
        with self.open() as parquet:
            return [parquet.metadata.row_group(k).num_rows for k in range(parquet.num_row_groups)]


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One row to make an example of.

    Attributes:
        name: What to call it where it is counted.
        columns: The columns of PIPE_SCHEMA.
        mask: Its encoded mask, or None when there is none.
        num_masks: How many masks had its key.
        is_repeat: Whether an earlier row of the dataset has the same key.
    """

    name: str
    columns: Mapping[str, Any]
    mask: bytes | None
    num_masks: int = 1
    is_repeat: bool = False


@dataclass(frozen=True, kw_only=True)
class PickedMask:
    """The mask of one key: its PNG bytes (None when the cell is null) and how many rows had that key."""

    data: bytes | None
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class ShardRows:
    """Which rows of a shard to use.

    Attributes:
        shard: The parquet file.
        takes: (row group, how many of its rows from its first on), in the file's order.
        keys: The keys of those rows.
        repeats: Positions among them whose key an earlier row of the dataset has already.
    """

    shard: Shard
    takes: tuple[tuple[int, int], ...]
    keys: pa.Array
    repeats: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return PurePosixPath(self.shard.name).name

    def rows(self, mask_tables: Sequence[pa.Table]) -> Iterator[SourceRow]:
        """Yields the rows, holding a few at a time in memory.

        Args:
            mask_tables: All mask shards, as `read_masks` gives them.

        Raises:
            DatasetError: The file is damaged in the middle.
        """
        masks = pick_masks(mask_tables, self.keys)
        for number, row in enumerate(self._pictures()):
            key = key_of(row)
            mask = masks.get(key or "")
            yield SourceRow(
                name=key or f"row {number} of {self}",
                columns=row,
                mask=mask.data if mask else None,
                num_masks=mask.num_rows if mask else 0,
                is_repeat=number in self.repeats,
            )

    def _pictures(self) -> Iterator[dict[str, Any]]:
        with self.shard.open() as parquet:
            # Over all row groups at once Arrow keeps every one it has passed: the whole shard, in the end.
            for group, num_rows in self.takes:
                left = num_rows
                batches = parquet.iter_batches(
                    _ROWS_PER_READ, row_groups=[group], columns=list(IMAGE_COLUMNS)
                )
                for batch in batches:
                    yield from batch.slice(0, left).to_pylist()
                    left -= batch.num_rows
                    if left <= 0:
                        break


def find_shards(location: str | Path, columns: Sequence[str]) -> list[Shard]:
    """Finds the parquet files in and below a folder, in the order of their names.

    Args:
        location: The folder, as downloaded from the hub, or an s3:// address; a single file will do too.
        columns: Columns that every file must have.

    Raises:
        DatasetError: No such folder, no parquet in it, or a file that is no parquet or has other columns.
    """
    store = open_store(location)
    if not store.exists():
        raise DatasetError(f"there is no folder {location}; give the one that holds the parquet shards")
    if store.is_file():
        folder, _, name = str(location).rpartition("/")
        shards = [Shard(store=open_store(folder or "."), name=name)]
    else:
        shards = [Shard(store=store, name=name) for name in store.files(".parquet")]
    if not shards:
        raise DatasetError(
            f"there is no .parquet file in or below {location}; give the folder that holds the shards"
        )
    for shard in shards:
        _check_columns(shard, columns)
    return shards


def choose_rows(shards: Sequence[Shard], *, limit: int = 0) -> list[ShardRows]:
    """Chooses which rows to use: all, or a sample that reads little and is spread over all shards.

    A sample takes whole row groups, since that is the least that parquet reads: every shard gives its
    share of the limit, from its row groups in the order of a hash of their names. So the same files give
    the same sample everywhere, and the bytes of other row groups are never read.

    Args:
        shards: As `find_shards` gives them.
        limit: Rows at most; 0 for all.
    """
    sizes = [shard.group_sizes() for shard in shards]
    quotas = _quotas([sum(groups) for groups in sizes], limit)
    chosen = []
    for shard, groups, quota in zip(shards, sizes, quotas, strict=True):
        takes = sorted(_takes(PurePosixPath(shard.name).name, groups, quota))
        if takes:
            chosen.append((shard, tuple(takes), _read_keys(shard, takes)))
    repeats = _repeats([keys for _, _, keys in chosen])
    return [
        ShardRows(shard=shard, takes=takes, keys=keys, repeats=again)
        for (shard, takes, keys), again in zip(chosen, repeats, strict=True)
    ]


def _quotas(counts: Sequence[int], limit: int) -> list[int]:
    """Shares of the limit in proportion to the counts, rounded so that they add up to it."""
    total = sum(counts)
    if not limit or limit >= total:
        return list(counts)
    quotas = [limit * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda k: (-(limit * counts[k] % total), k))
    for k in by_remainder[: limit - sum(quotas)]:
        quotas[k] += 1
    return quotas


def _takes(name: str, groups: Sequence[int], quota: int) -> Iterator[tuple[int, int]]:
    hashed = sorted(range(len(groups)), key=lambda k: hashlib.sha256(f"{name}/{k}".encode()).digest())
    for group in hashed:
        if quota <= 0:
            return
        if groups[group]:
            yield group, min(quota, groups[group])
        quota -= groups[group]


def _repeats(keys: Sequence[pa.Array]) -> list[frozenset[int]]:
    """Finds for each shard the rows whose key an earlier row has already; example ids are unique."""
    if not keys:
        return []
    counts = pc.value_counts(pa.concat_arrays(keys).drop_null())
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    seen: set[str] = set()
    repeats = []
    for shard_keys in keys:
        rows = set()
        for row in pc.indices_nonzero(pc.is_in(shard_keys, value_set=repeated)).to_pylist():
            key = shard_keys[row].as_py()
            if key in seen:
                rows.add(row)
            seen.add(key)
        repeats.append(frozenset(rows))
    return repeats


def read_keys(shard: Shard) -> pa.Array:
    """Reads the keys "<dataset>/<img_id>/<ann_id>" of a shard, null where a part of one is null."""
    return _read_keys(shard, list(enumerate(shard.group_sizes())))


def _read_keys(shard: Shard, takes: Sequence[tuple[int, int]]) -> pa.Array:
    with shard.open() as parquet:
        parts = [
            _keys(parquet.read_row_group(group, columns=list(KEY_COLUMNS)).slice(0, num_rows))
            for group, num_rows in takes
        ]
    return pa.concat_arrays(parts) if parts else pa.array([], pa.string())


def read_masks(shard: Shard) -> pa.Table:
    """Reads a whole mask shard: columns "key" (string) and "mask" (encoded bytes)."""
    with shard.open() as parquet:
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


def _check_columns(shard: Shard, columns: Sequence[str]) -> None:
    with shard.open() as parquet:
        schema = parquet.schema_arrow
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise DatasetError(
            f"{shard} has no column {', '.join(missing)}; it has {', '.join(schema.names) or 'none'}"
        )
    for name in set(columns) & set(_PICTURE_COLUMNS):
        kind = schema.field(name).type
        if not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            raise DatasetError(f"column {name} of {shard} is {kind}, not a struct with a field 'bytes'")
