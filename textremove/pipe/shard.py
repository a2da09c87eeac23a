"""One PIPE shard to part files of examples, in bounded memory; only counts come back."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textremove.pipe.rows import Example, RowRejected, example_from_row, key_of
from textremove.pipe.source import pick_masks, read_rows
from textremove.schema import EXAMPLE_SCHEMA

MAX_SAMPLES = 5
"""So many rows are named for each reason; the counts are of all."""

_ROWS_PER_GROUP = 64
_BYTES_PER_GROUP = 16 * 2**20
_COMPRESSION = {
    name: "NONE" if pa.types.is_binary(kind) else "ZSTD"  # pictures are compressed already
    for name, kind in zip(EXAMPLE_SCHEMA.names, EXAMPLE_SCHEMA.types, strict=True)
}


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to prepare.

    Attributes:
        index: Its position among the shards, which names its part files.
        path: The parquet file.
        keys: The keys of the rows to use, from the first row on.
        repeats: Rows whose key an earlier row of the dataset has already.
        resolution: Longest side of the examples in pixels at most; 0 keeps every photo's size.
    """

    index: int
    path: str
    keys: pa.Array
    repeats: frozenset[int] = frozenset()
    resolution: int = 0


@dataclass(kw_only=True)
class Tally:
    """How often each reason was met, and the first few rows it was met at."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, sample: str) -> None:
        """Counts one row under a reason."""
        self.counts[reason] += 1
        self.extend_samples(reason, [sample])

    def merge(self, other: Tally) -> None:
        """Adds the counts of a later shard."""
        self.counts.update(other.counts)
        for reason, samples in other.samples.items():
            self.extend_samples(reason, samples)

    def extend_samples(self, reason: str, samples: Sequence[str]) -> None:
        """Remembers rows while there is room."""
        known = self.samples.setdefault(reason, [])
        known += samples[: MAX_SAMPLES - len(known)]


@dataclass(kw_only=True)
class ShardSummary:
    """What became of one shard's rows.

    Attributes:
        index: The shard's position.
        rows_read: Rows looked at.
        rejected: Rows that gave no example, by reason.
        notes: Examples that were mended on the way, by what was done.
        classes: Examples by object class.
        places: Examples by place.
        files: Part files written: path within the folder, split, number of examples, sha256.
    """

    index: int
    rows_read: int = 0
    rejected: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    classes: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """Rows that gave an example."""
        return self.rows_read - self.rejected.counts.total()


def prepare_shard(task: ShardTask, mask_tables: Sequence[pa.Table], out: Path) -> ShardSummary:
    """Writes the examples of one shard to part files of its own in `out`.

    Doing it again writes the same files with the same bytes. No row stops it: a bad one is counted.

    Args:
        task: The shard and how to prepare it.
        mask_tables: All mask shards, as `read_masks` gives them.
        out: The prepared folder, with a folder for each split in it.

    Raises:
        DatasetError: The shard itself is damaged.
    """
    masks = pick_masks(mask_tables, task.keys)
    summary = ShardSummary(index=task.index)
    with _PartWriter(out, task.index) as writer:
        for number, row in enumerate(read_rows(task.path, num_rows=len(task.keys))):
            summary.rows_read += 1
            key = key_of(row)
            name = key or f"row {number} of {Path(task.path).name}"
            mask = masks.get(key or "")
            try:
                if number in task.repeats:
                    raise RowRejected("row_repeated")
                example = example_from_row(row, mask.data if mask else None, resolution=task.resolution)
            except RowRejected as rejection:
                summary.rejected.add(rejection.reason, name)
                continue
            except Exception as error:  # whatever one row in a million holds, the others go on
                summary.rejected.add(f"unexpected_{type(error).__name__.lower()}", name)
                continue
            writer.add(example)
            summary.classes[example.object_class] += 1
            summary.places[example.place] += 1
            for note in (*example.notes, *(["mask_duplicate"] if mask and mask.num_rows > 1 else [])):
                summary.notes.add(note, name)
    summary.files = writer.files
    return summary


class _PartWriter:
    """Writes examples to one parquet file for each split, opened when its first example comes."""

    def __init__(self, out: Path, index: int) -> None:
        self._out = out
        self._name = f"part-{index:05d}.parquet"
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._waiting: dict[str, list[Mapping[str, Any]]] = {}
        self._waiting_bytes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self.files: list[dict[str, Any]] = []

    def __enter__(self) -> _PartWriter:
        return self

    def add(self, example: Example) -> None:
        """Adds an example to its split, writing to disk when enough are waiting."""
        waiting = self._waiting.setdefault(example.split, [])
        waiting.append(example.columns())
        self._counts[example.split] += 1
        self._waiting_bytes[example.split] += len(example.image) + len(example.truth)
        if len(waiting) >= _ROWS_PER_GROUP or self._waiting_bytes[example.split] >= _BYTES_PER_GROUP:
            self._flush(example.split)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for split in sorted(self._waiting):
            self._flush(split)
        for split, writer in sorted(self._writers.items()):
            writer.close()
            self.files.append(self._described(split))

    def _flush(self, split: str) -> None:
        rows = self._waiting[split]
        if not rows:
            return
        if split not in self._writers:
            self._writers[split] = pq.ParquetWriter(
                self._out / self._relative(split), EXAMPLE_SCHEMA, compression=_COMPRESSION
            )
        self._writers[split].write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA))
        self._waiting[split] = []
        self._waiting_bytes[split] = 0

    def _relative(self, split: str) -> str:
        return f"split={split}/{self._name}"

    def _described(self, split: str) -> dict[str, Any]:
        with (self._out / self._relative(split)).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "path": self._relative(split),
            "split": split,
            "examples": self._counts[split],
            "sha256": digest,
        }
