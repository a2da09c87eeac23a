"""Part files of a prepared folder: examples in, parquet files of a size that streams well out."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textremove.pipe.rows import Example
from textremove.schema import EXAMPLE_SCHEMA
from textremove.storage import Store

BYTES_PER_FILE = 128 * 2**20
"""A part file is closed when it has this much: large enough for a long read, small enough to spread."""

_ROWS_PER_GROUP = 64
_BYTES_PER_GROUP = 16 * 2**20
_COMPRESSION = {
    name: "NONE" if pa.types.is_binary(kind) else "ZSTD"  # pictures are compressed already
    for name, kind in zip(EXAMPLE_SCHEMA.names, EXAMPLE_SCHEMA.types, strict=True)
}


class PartWriter:
    """Writes the examples of one shard to part files of their splits: "split=train/part-00003-000.parquet".

    Args:
        store: The prepared folder.
        index: The shard's position, which names the files.
        bytes_per_file: When to begin another file.
    """

    def __init__(self, store: Store, index: int, *, bytes_per_file: int = BYTES_PER_FILE) -> None:
        self._store = store
        self._index = index
        self._bytes_per_file = bytes_per_file
        self._open: dict[str, _PartFile] = {}
        self._numbers: dict[str, int] = {}
        self.files: list[dict[str, Any]] = []

    def __enter__(self) -> PartWriter:
        return self

    def add(self, example: Example) -> str:
        """Adds an example to its split; gives the name of the file that holds it."""
        part = self._open.get(example.split)
        if part is None:
            number = self._numbers[example.split] = self._numbers.get(example.split, -1) + 1
            name = f"split={example.split}/part-{self._index:05d}-{number:03d}.parquet"
            part = self._open[example.split] = _PartFile(self._store, name, example.split)
        part.add(example.columns())
        if part.num_bytes >= self._bytes_per_file:
            self._close(example.split)
        return part.name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for split in sorted(self._open):
            self._close(split)
        self.files.sort(key=lambda file: file["path"])

    def _close(self, split: str) -> None:
        self.files.append(self._open.pop(split).close())


class _PartFile:
    def __init__(self, store: Store, name: str, split: str) -> None:
        self.name, self.split = name, split
        self.num_bytes = self.num_rows = 0
        self._stream = _Digesting(store.filesystem.open_output_stream(store.path(name)))
        self._writer = pq.ParquetWriter(self._stream, EXAMPLE_SCHEMA, compression=_COMPRESSION)
        self._waiting: list[Mapping[str, Any]] = []
        self._waiting_bytes = 0

    def add(self, row: Mapping[str, Any]) -> None:
        size = sum(len(row[name] or b"") for name in ("image", "mask", "truth"))
        self._waiting.append(row)
        self._waiting_bytes += size
        self.num_bytes += size
        self.num_rows += 1
        if len(self._waiting) >= _ROWS_PER_GROUP or self._waiting_bytes >= _BYTES_PER_GROUP:
            self._flush()

    def close(self) -> dict[str, Any]:
        """Writes what waits; gives the file's entry in dataset.json."""
        self._flush()
        self._writer.close()
        self._stream.close()
        return _entry(self.name, self.split, self.num_rows, self._stream.hexdigest())

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=EXAMPLE_SCHEMA))
            self._waiting, self._waiting_bytes = [], 0


def rewrite_without(store: Store, entry: Mapping[str, Any], unwanted: pa.Array) -> dict[str, Any]:
    """Takes examples out of a part file; doing it twice gives the same bytes.

    Args:
        store: The prepared folder.
        entry: The file's entry in dataset.json.
        unwanted: Example ids, whether they are still in it or not.

    Returns:
        Its new entry.
    """
    dropped = set(unwanted.to_pylist())
    kept = _PartFile(store, entry["path"] + ".rewritten", entry["split"])
    with (
        store.filesystem.open_input_file(store.path(entry["path"])) as file,
        pq.ParquetFile(file) as parquet,
    ):
        for group in range(parquet.num_row_groups):
            for row in parquet.read_row_group(group).to_pylist():
                if row["example_id"] not in dropped:
                    kept.add(row)
    written = kept.close()
    store.filesystem.move(store.path(written["path"]), store.path(entry["path"]))
    return written | {"path": entry["path"]}


def _entry(path: str, split: str, examples: int, sha256: str) -> dict[str, Any]:
    return {"path": path, "split": split, "examples": examples, "sha256": sha256}


class _Digesting(io.RawIOBase):
    """An output stream that knows the SHA-256 of what went through it, so that nothing is read back."""

    def __init__(self, stream: pa.NativeFile) -> None:
        super().__init__()
        self._stream = stream
        self._digest = hashlib.sha256()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._digest.update(data)
        self._stream.write(data)
        self._position += size
        return size

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
