"""The order of rows in an epoch, and reading them in it. Light to import: every reading process does.

Pieces of 64 neighbouring rows come in an order drawn for the epoch, and the rows of every eight pieces are
mixed: each piece is read once (twice where two mixtures share it), whatever the size of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from textremove.onray.cluster import PATIENCE_SECONDS
from textremove.onray.row_files import PIECE, RowFiles

_WINDOW = 8 * PIECE  # rows that are mixed with each other: some 50 MB as files
# Windows that are read at a time. That there is a limit keeps Ray Data from making one task of reading a
# window and decoding all of it. That reading takes no slot keeps Ray Data from setting some aside for it, and
# two slots then had one process decode: it shares slots out among its stages, and decoding takes whole ones.
_READING = 4
_SLOTS = 0


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


class WindowReader:
    """Knows which rows are in every window of every epoch, from the row counts of the files alone.

    Args:
        source: What is read.
        order: Of its rows.
    """

    def __init__(self, source: RowFiles, order: Order) -> None:
        self.source, self.order = source, order
        self.first_F = np.cumsum([0, *source.counts[:-1]])  # number of the first row of each file
        pieces = [(piece.file, piece.start, piece.length) for piece in source.pieces()]
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
        """The rows of a window, with the "epoch" and the "number" of each; every file is opened once."""
        rows = self.rows(epoch, number)
        by_place = np.lexsort((rows[:, 1], rows[:, 0]))
        tables = [
            self.source.read(file, [row for _, row in group])
            for file, group in groupby(rows[by_place].tolist(), key=lambda place: place[0])
        ]
        table = pa.concat_tables(tables).take(np.argsort(by_place))
        numbers = self.first_F[rows[:, 0]] + rows[:, 1]
        return table.append_column("number", [numbers]).append_column("epoch", [[epoch] * len(rows)])

    def windows(self, epochs: range) -> ray.data.Dataset:
        """All rows of these epochs in order, as read."""
        count = self.num_windows * len(epochs)
        numbers = ray.data.range(count, override_num_blocks=count)
        rows = numbers.map_batches(
            _read_window,
            batch_size=1,
            fn_args=(self, epochs.start),
            compute=ray.data.TaskPoolStrategy(size=min(_READING, count)),
            num_cpus=_SLOTS,
        )
        rows.context.execution_options.preserve_order = True
        rows.context.execution_no_progress_timeout_s = PATIENCE_SECONDS
        return rows


def _read_window(batch: dict[str, Any], reader: WindowReader, first_epoch: int) -> pa.Table:
    """Reads the window with this number, counted over all epochs."""
    epoch, number = divmod(int(batch["id"][0]), reader.num_windows)
    return reader.read(first_epoch + epoch, number)
