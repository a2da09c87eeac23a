"""Parquet files whose rows are numbered through, and reading any rows of them. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from textremove.pipe.prepared import prepared_files, read_dataset_info
from textremove.storage import Store, open_store

PIECE = 64
"""Neighbouring rows that are read together: a row group of most prepared files."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Neighbouring rows of one file.

    Attributes:
        file: Index of the file.
        start: The first row in it.
        length: How many rows.
    """

    file: int
    start: int
    length: int


@dataclass(frozen=True, kw_only=True)
class RowFiles:
    """Files and which columns of them are read. Small and picklable.

    Attributes:
        store: Folder that they are in.
        files: Their paths on its file system, in an order that is always the same.
        counts: Rows of each; only its first ones, where that is fewer than it has.
        columns: To be read.
    """

    store: Store
    files: tuple[str, ...]
    counts: tuple[int, ...]
    columns: tuple[str, ...]

    @classmethod
    def of_training(cls, data: str, columns: Sequence[str]) -> Self:
        """The training split of a prepared folder.

        Raises:
            DatasetError: As `prepared_files`.
        """
        counts = [
            entry["examples"] for entry in read_dataset_info(data)["files"] if entry["split"] == "train"
        ]
        return cls(
            store=open_store(data),
            files=tuple(prepared_files(data, split="train")),
            counts=tuple(counts),
            columns=tuple(columns),
        )

    def first(self, limit: int) -> Self:
        """The same with the first `limit` rows only; 0 for all."""
        if not limit:
            return self
        before = np.cumsum([0, *self.counts[:-1]])
        counts = [int(min(n, limit - b)) for n, b in zip(self.counts, before, strict=True) if b < limit]
        return type(self)(
            store=self.store,
            files=self.files[: len(counts)],
            counts=tuple(counts),
            columns=self.columns,
        )

    @property
    def num_rows(self) -> int:
        return sum(self.counts)

    def pieces(self) -> list[Piece]:
        """All rows in pieces, in order."""
        return [
            Piece(file=file, start=start, length=min(PIECE, count - start))
            for file, count in enumerate(self.counts)
            for start in range(0, count, PIECE)
        ]

    def read(self, file: int, rows: Sequence[int]) -> pa.Table:
        """Reads rows of one file, in the order asked for; row groups without any of them are not read."""
        with (
            self.store.filesystem.open_input_file(self.files[file]) as stream,
            pq.ParquetFile(stream) as parquet,
        ):
            sizes = [parquet.metadata.row_group(k).num_rows for k in range(parquet.num_row_groups)]
            ends = np.cumsum(sizes)
            group_of_row = np.searchsorted(ends, rows, side="right")
            groups = np.unique(group_of_row)
            # Rows count from the beginning of the file; skipped row groups are taken off.
            skipped = np.cumsum([0 if k in groups else size for k, size in enumerate(sizes)])
            table = parquet.read_row_groups(groups.tolist(), columns=list(self.columns))
            return table.take(np.asarray(rows) - skipped[group_of_row])
