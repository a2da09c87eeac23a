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

from collections.abc import Generator
from dataclasses import dataclass
from typing import Self

import numpy as np
import ray
import ray.data
import ray.train.collective

from textremove.onray.datasets import read_prepared
from textremove.onray.row_files import RowFiles
from textremove.onray.squares import COLUMNS, training_squares
from textremove.onray.windows import Order, WindowReader
from textremove.onray.workers import Place
from textremove.pipe.absent import AbsentExamples

_MOST_TOGETHER = 16  # rows that are decoded to one block: 16 MiB at 512 px
_BATCH_BLOCKS = 4  # that are made of the rows which Ray Data hands over at a time; a task has a whole window
# Blocks that a decoding task may be ahead of who takes them. With Ray Data's own two it stands still until
# Ray Data looks again, every tenth of a second: 590 examples a second instead of 750 on two cores. With 32
# Ray Data counts on half a GiB from every task, and starts one instead of two.
_AHEAD = 16

Batch = dict[str, np.ndarray]


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

    @classmethod
    def of(cls, place: Place, order: Order, *, most: int) -> Self:
        """A share in pieces of as many rows as divide it, up to `most`."""
        share = order.batch_size // place.size
        together = next(rows for rows in range(min(share, most), 0, -1) if share % rows == 0)
        return cls(place=place, batch_size=order.batch_size, together=together)

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
        share = Share.of(place, self.order, most=_MOST_TOGETHER)
        iterator = split_blocks(self.dataset(epochs, together=share.together), place)
        positions = share.positions()
        for batch in iterator.iter_batches(batch_size=share.num_rows):
            yield positions, batch

    def dataset(self, epochs: range, *, together: int) -> ray.data.Dataset:
        """The decoded rows of these epochs in order, in blocks of exactly `together` rows."""
        reader = WindowReader(RowFiles.of_training(self.data, _columns(self.absent)), self.order)
        squares = _decoded(reader.windows(epochs), self.side, together, self.absent)
        return squares.repartition(target_num_rows_per_block=together, strict=True)


def _columns(absent: AbsentExamples | None) -> list[str]:
    return COLUMNS if absent is None else [*COLUMNS, *absent.columns]


def _decoded(
    examples: ray.data.Dataset, side: int, together: int, absent: AbsentExamples | None
) -> ray.data.Dataset:
    """Examples as squares of this side, decoded a batch at a time, in the order they come in."""
    squares = examples.map_batches(
        training_squares,
        fn_kwargs={"side": side, "absent": absent, "together": together},
        batch_size=_BATCH_BLOCKS * together,
        batch_format="pyarrow",
    )
    squares.context.execution_options.preserve_order = True
    squares.context._max_num_blocks_in_streaming_gen_buffer = _AHEAD
    # It would leave a task's last blocks lying, and the next task waiting, while training still has others.
    # What bounds memory is the share of the object store that Ray Data gives each stage.
    squares.context.downstream_capacity_backpressure_ratio = None
    return squares


def split_blocks(dataset: ray.data.Dataset, place: Place) -> ray.data.DataIterator:
    """This worker's part of a dataset: every size-th block, from the rank-th on.

    Ray Data hands the next block to the worker with the fewest rows so far; with blocks of one size, kept
    in order, that is each in turn.
    """
    if place.size == 1:
        return dataset.iterator()
    # Not through the trainer's `datasets`: a run that goes on must begin at its own epoch, which only the
    # workers know.
    # They are too large to be told by themselves, and a bare reference would be replaced by what it is to.
    mine = [ray.put(dataset.streaming_split(place.size, equal=True))] if place.rank == 0 else None
    (parts,) = ray.train.collective.broadcast_from_rank_zero(mine)
    part: ray.data.DataIterator = ray.get(parts)[place.rank]
    return part
