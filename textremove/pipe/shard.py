"""One shard of rows to part files of examples, in bounded memory; what comes back is small."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from textremove.pipe.parts import BYTES_PER_FILE, PartWriter
from textremove.pipe.rows import RowRejected, example_from_row
from textremove.pipe.source import SourceRow
from textremove.schema import JOURNAL_SCHEMA
from textremove.storage import Store

MAX_SAMPLES = 5
"""So many rows are named for each reason; the counts are of all."""

JOURNAL_FOLDER = "_shards"
"""Where a folder that is being prepared keeps one file for each finished shard."""

STOP_FILE = f"{JOURNAL_FOLDER}/stop"
"""While it is there, tasks give up."""

_LOOK_SECONDS = 1.0  # between two looks for it
_COUNTS_KEY = b"textremove"


class Stopped(Exception):
    """The job is being stopped; the shard will be prepared again."""


class RowSource(Protocol):
    """Some rows of a dataset; its `str` is what to call them."""

    def rows(self, mask_tables: Sequence[pa.Table]) -> Iterator[SourceRow]:
        """Yields the rows, holding a few at a time in memory.

        Args:
            mask_tables: As `textremove.pipe.source.read_masks` gives them; not every source needs them.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to prepare.

    Attributes:
        index: Its position among the shards, which names its part files.
        source: Where its rows come from.
        resolution: Longest side of the examples in pixels at most; 0 keeps every photo's size.
        with_truth: Whether rows have a photo without the object.
        bytes_per_file: Size of the part files.
    """

    index: int
    source: RowSource
    resolution: int = 0
    with_truth: bool = True
    bytes_per_file: int = BYTES_PER_FILE


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

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Reasons in alphabetical order, each with "count" and "samples"."""
        return {
            reason: {"count": count, "samples": self.samples[reason]}
            for reason, count in sorted(self.counts.items())
        }

    @classmethod
    def from_json(cls, entries: dict[str, dict[str, Any]]) -> Tally:
        """Reads what `as_json` gave."""
        return cls(
            counts=Counter({reason: entry["count"] for reason, entry in entries.items()}),
            samples={reason: entry["samples"] for reason, entry in entries.items()},
        )


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What became of one shard's rows.

    Attributes:
        index: The shard's position.
        rows_read: Rows looked at.
        rejected: Rows that gave no example, by reason.
        notes: Examples that were mended on the way, by what was done.
        files: Part files written: path within the folder, split, number of examples, sha256.
        examples: One row of JOURNAL_SCHEMA for each example.
    """

    index: int
    rows_read: int
    rejected: Tally
    notes: Tally
    files: list[dict[str, Any]]
    examples: pa.Table

    def save(self, store: Store) -> None:
        """Writes it to the journal of a folder that is being prepared: from then on the shard is done."""
        counts = {
            "rows_read": self.rows_read,
            "rejected": self.rejected.as_json(),
            "notes": self.notes.as_json(),
            "files": self.files,
        }
        table = self.examples.replace_schema_metadata({_COUNTS_KEY: json.dumps(counts).encode()})
        with store.replacing(journal_name(self.index)) as path:
            pq.write_table(table, path, filesystem=store.filesystem, compression="ZSTD")

    @classmethod
    def load(cls, store: Store, index: int) -> ShardSummary:
        """Reads what `save` wrote."""
        table = pq.read_table(store.path(journal_name(index)), filesystem=store.filesystem, partitioning=None)
        counts = json.loads(table.schema.metadata[_COUNTS_KEY])
        return cls(
            index=index,
            rows_read=counts["rows_read"],
            rejected=Tally.from_json(counts["rejected"]),
            notes=Tally.from_json(counts["notes"]),
            files=counts["files"],
            examples=table.replace_schema_metadata(None),
        )


def journal_name(index: int) -> str:
    """Name of a shard's file in the journal."""
    return f"{JOURNAL_FOLDER}/{index:05d}.parquet"


def prepare_shard(task: ShardTask, mask_tables: Sequence[pa.Table], store: Store) -> ShardSummary:
    """Writes the examples of one shard to part files of its own.

    Doing it again writes the same files with the same bytes. No row stops it: a bad one is counted.

    Args:
        task: The shard and how to prepare it.
        mask_tables: All mask shards, as `read_masks` gives them.
        store: The folder that is being prepared, with a folder for each split in it.

    Raises:
        DatasetError: The shard itself is damaged.
        Stopped: STOP_FILE has appeared.
    """
    rejected, notes, rows_read = Tally(), Tally(), 0
    examples: list[dict[str, Any]] = []
    looked = float("-inf")
    with PartWriter(store, task.index, bytes_per_file=task.bytes_per_file) as writer:
        for row in task.source.rows(mask_tables):
            if time.monotonic() - looked > _LOOK_SECONDS:
                if store.exists(STOP_FILE):
                    raise Stopped
                looked = time.monotonic()
            rows_read += 1
            try:
                if row.is_repeat:
                    raise RowRejected("row_repeated")
                example = example_from_row(
                    row.columns, row.mask, resolution=task.resolution, with_truth=task.with_truth
                )
            except RowRejected as rejection:
                rejected.add(rejection.reason, row.name)
                continue
            except Exception as error:  # whatever one row in a million holds, the others go on
                rejected.add(f"unexpected_{type(error).__name__.lower()}", row.name)
                continue
            examples.append(
                {
                    "example_id": example.example_id,
                    "photo_id": example.photo_id,
                    "object_class": example.object_class,
                    "place": example.place,
                    "photo_digest": example.photo_digest,
                    "file": writer.add(example),
                }
            )
            for note in (*example.notes, *(["mask_duplicate"] if row.num_masks > 1 else [])):
                notes.add(note, row.name)
    return ShardSummary(
        index=task.index,
        rows_read=rows_read,
        rejected=rejected,
        notes=notes,
        files=writer.files,
        examples=pa.Table.from_pylist(examples, schema=JOURNAL_SCHEMA),
    )
