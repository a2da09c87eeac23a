"""What a segmenter trains on, batch for batch: the same batches on one worker as on many.

The rows of a global batch are drawn from the seed and the epoch alone; every worker takes its share of them.
The last batch of an epoch is filled up with rows from the epoch's beginning, so that all batches are whole:
no row is left out, and no worker waits for another that has run out.

Pictures that are few enough stay decoded in Ray's object store, and an epoch is one permutation of all rows.
More are streamed by Ray Data: pieces of 64 neighbouring rows in an order drawn for the epoch, and the rows
of every eight pieces mixed. The memory this takes does not grow with the data, every piece is read once
(twice where two mixtures share it), and a batch is drawn from eight places in PIPE.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import ray.train.collective

from textremove.onray.datasets import read_prepared
from textremove.onray.squares import COLUMNS, to_training_squares
from textremove.onray.workers import Place
from textremove.pipe.absent import AbsentExamples
from textremove.pipe.prepared import prepared_files, read_dataset_info
from textremove.storage import open_store

_PIECE = 64  # neighbouring rows that are read together: a row group of most prepared files
_WINDOW = 8 * _PIECE  # rows that are mixed with each other: some 50 MB as files
_MOST_TOGETHER = 16  # rows that are decoded to one block: 16 MiB at 512 px

Batch = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of rows in every epoch.

    Attributes:
        num_rows: Rows of the training split.
        batch_size: Rows of a step, over all workers together.
        seed: What the order is drawn from, together with the epoch's number.
    """

    num_rows: int
    batch_size: int
    seed: int

    @property
    def num_steps(self) -> int:
        """Batches of an epoch, all whole."""
        return math.ceil(self.num_rows / self.batch_size)

    def shuffled(self, epoch: int) -> np.ndarray:
        """Row numbers of a whole epoch, int64 (num_steps * batch_size,); the first ones again at the end."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
        return np.resize(order, self.num_steps * self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which rows of every global batch are one worker's.

    Attributes:
        place: The worker's.
        batch_size: Rows of the global batch; a multiple of the number of workers.
        together: Rows that go to one worker in one piece; divides its share.
    """

    place: Place
    batch_size: int
    together: int

    @property
    def num_rows(self) -> int:
        return self.batch_size // self.place.size

    def positions(self) -> np.ndarray:
        """Positions of this worker's rows in the global batch, int64 (num_rows,)."""
        pieces = np.arange(self.place.rank, self.batch_size // self.together, self.place.size)
        return (pieces[:, None] * self.together + np.arange(self.together)).ravel()


@dataclass(frozen=True, kw_only=True)
class StoredSquares:
    """Decoded squares in Ray's object store.

    Attributes:
        blocks: References to columns of rows, in an order that is always the same.
        order: Of the rows.
    """

    blocks: tuple[ray.ObjectRef, ...]
    order: Order

    @classmethod
    def of(cls, data: str, *, side: int, order: Order, absent: AbsentExamples | None = None) -> Self:
        """Decodes the training split of a prepared folder into the object store."""
        examples = read_prepared(data, split="train").select_columns(_columns(absent))
        squares = _decoded(examples, side, _MOST_TOGETHER, absent)
        return cls(blocks=tuple(squares.to_numpy_refs()), order=order)

    def batches(self, place: Place, *, epochs: range) -> Generator[tuple[np.ndarray, Batch]]:
        """Yields this worker's batches of these epochs: positions in the global batch, and columns."""
        blocks = ray.get(list(self.blocks))  # on this node: shared memory, not copied
        ends = np.cumsum([len(block["prompt"]) for block in blocks])
        starts = np.concatenate([[0], ends[:-1]])
        size = self.order.batch_size
        positions = Share(place=place, batch_size=size, together=size // place.size).positions()
        for epoch in epochs:
            rows = self.order.shuffled(epoch).reshape(-1, size)[:, positions]
            for chosen in rows:
                where = np.searchsorted(ends, chosen, side="right")
                picked = list(zip(where, chosen - starts[where], strict=True))
                yield positions, {name: np.stack([blocks[b][name][k] for b, k in picked]) for name in COLUMNS}


@dataclass(frozen=True, kw_only=True)
class StreamedSquares:
    """Squares that are read and decoded as training goes on.

    Attributes:
        data: The prepared folder; on a cluster, one that every node sees.
        side: Of the squares, in pixels.
        order: Of the rows.
        absent: Shows some of them without their object.
    """

    data: str
    side: int
    order: Order
    absent: AbsentExamples | None = None

    def batches(self, place: Place, *, epochs: range) -> Generator[tuple[np.ndarray, Batch]]:
        """As `StoredSquares.batches`; all workers must iterate."""
        share = Share(place=place, batch_size=self.order.batch_size, together=self.together(place.size))
        iterator = _split(self.dataset(epochs, together=share.together), place)
        positions = share.positions()
        for batch in iterator.iter_batches(batch_size=share.num_rows):
            yield positions, batch

    def dataset(self, epochs: range, *, together: int) -> ray.data.Dataset:
        """The decoded rows of these epochs in order, in blocks of exactly `together` rows."""
        reader = WindowReader(self.data, self.order, columns=_columns(self.absent))
        windows = [(epoch, number) for epoch in epochs for number in range(reader.num_windows)]
        numbers = ray.data.range(len(windows), override_num_blocks=len(windows))
        examples = numbers.map_batches(_read_window, batch_size=1, fn_args=(reader, epochs.start))
        squares = _decoded(examples, self.side, together, self.absent)
        return squares.repartition(target_num_rows_per_block=together, strict=True)

    def together(self, num_workers: int) -> int:
        """Rows that are decoded to one block: as many as divide a share, up to sixteen."""
        share = self.order.batch_size // num_workers
        return next(rows for rows in range(min(share, _MOST_TOGETHER), 0, -1) if share % rows == 0)


def _columns(absent: AbsentExamples | None) -> list[str]:
    return COLUMNS if absent is None else [*COLUMNS, *absent.columns]


def _decoded(
    examples: ray.data.Dataset, side: int, together: int, absent: AbsentExamples | None
) -> ray.data.Dataset:
    """Examples as squares of this side, decoded a batch at a time, in the order they come in."""
    squares = examples.map_batches(
        to_training_squares,
        fn_kwargs={"side": side, "absent": absent},
        batch_size=together,
        batch_format="pyarrow",
    )
    squares.context.execution_options.preserve_order = True
    return squares


def _split(dataset: ray.data.Dataset, place: Place) -> ray.data.DataIterator:
    """This worker's part of a dataset: every size-th block, from the rank-th on.

    Ray Data hands the next block to the worker with the fewest rows so far; with blocks of one size, kept
    in order, that is each in turn.
    """
    if place.size == 1:
        return dataset.iterator()
    # Not through the trainer's `datasets`: a run that goes on must begin at its own epoch, which only the
    # workers know.
    parts = ray.put(dataset.streaming_split(place.size, equal=True)) if place.rank == 0 else None
    parts = ray.train.collective.broadcast_from_rank_zero(parts)
    part: ray.data.DataIterator = ray.get(parts)[place.rank]
    return part


class WindowReader:
    """Knows which rows are in every window of every epoch, from the row counts of the files alone."""

    def __init__(self, data: str, order: Order, *, columns: list[str]) -> None:
        self.columns = columns
        self.order, self.store = order, open_store(data)
        self.files = prepared_files(data, split="train")
        entries = [entry for entry in read_dataset_info(data)["files"] if entry["split"] == "train"]
        pieces = [
            (file, start, min(_PIECE, entry["examples"] - start))
            for file, entry in enumerate(entries)
            for start in range(0, entry["examples"], _PIECE)
        ]
        self.file_P, self.start_P, self.length_P = np.array(pieces).T
        self.num_windows = math.ceil(order.num_steps * order.batch_size / _WINDOW)

    def rows(self, epoch: int, number: int) -> np.ndarray:
        """The rows of a window in order: int64 (n, 2), file and row in it."""
        rng = np.random.default_rng([self.order.seed, epoch])
        pieces = rng.permutation(len(self.file_P))
        ends = np.cumsum(self.length_P[pieces])
        whole = self.order.num_steps * self.order.batch_size
        wanted = np.arange(number * _WINDOW, min((number + 1) * _WINDOW, whole)) % self.order.num_rows
        np.random.default_rng([self.order.seed, epoch, number]).shuffle(wanted)
        which = np.searchsorted(ends, wanted, side="right")
        piece = pieces[which]
        row = self.start_P[piece] + wanted - (ends[which] - self.length_P[piece])
        return np.stack([self.file_P[piece], row], axis=1)

    def read(self, epoch: int, number: int) -> pa.Table:
        """The examples of a window, pictures as files; every file is opened once."""
        rows = self.rows(epoch, number)
        by_place = np.lexsort((rows[:, 1], rows[:, 0]))
        tables = [
            self._read_file(file, [row for _, row in group])
            for file, group in groupby(rows[by_place].tolist(), key=lambda place: place[0])
        ]
        return pa.concat_tables(tables).take(np.argsort(by_place))

    def _read_file(self, file: int, rows: list[int]) -> pa.Table:
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
            table = parquet.read_row_groups(groups.tolist(), columns=self.columns)
            return table.take(np.asarray(rows) - skipped[group_of_row])


def _read_window(batch: dict[str, Any], reader: WindowReader, first_epoch: int) -> pa.Table:
    """Reads the window with this number, counted over all epochs."""
    epoch, number = divmod(int(batch["id"][0]), reader.num_windows)
    return reader.read(first_epoch + epoch, number)
