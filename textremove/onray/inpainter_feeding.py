"""What an adapter trains on, batch for batch: the same batches on one worker as on many.

Ray Data streams the rows of all epochs that are left in an order drawn from seed and epoch, and splits them
equally; memory does not grow with the data. They are latents from the cache, or squares that every step
encodes for itself.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from textremove.inpaint.holes import HoleConfig, Square
from textremove.inpaint.latents import LatentBatch, LatentEncoder
from textremove.onray.feeding import Share, split_blocks
from textremove.onray.inpainter_squares import square_columns
from textremove.onray.latents import read_latents
from textremove.onray.row_files import RowFiles
from textremove.onray.windows import Order, WindowReader
from textremove.onray.workers import Place

_LATENTS_TOGETHER, _SQUARES_TOGETHER = 64, 16  # that travel to a worker in one block, at most

Batches = Generator[tuple[np.ndarray, LatentBatch]]


@dataclass(frozen=True, kw_only=True)
class CachedLatents:
    """Latents that were encoded once.

    Attributes:
        rows: Of the cache.
        order: Of the rows.
    """

    rows: RowFiles
    order: Order

    def batches(self, place: Place, *, epochs: range, encoder: LatentEncoder) -> Batches:
        """Yields this worker's share of every batch of these epochs: row numbers, and latents on the CPU."""
        share = Share.of(place, self.order, most=_LATENTS_TOGETHER)
        latents = WindowReader(self.rows, self.order).windows(epochs)
        for columns in _delivered(latents, share):
            yield columns["number"], read_latents(columns)


@dataclass(frozen=True, kw_only=True)
class EncodedEachTime:
    """Squares that the worker encodes for every step; their holes are drawn anew in every epoch.

    Attributes:
        rows: Of the prepared folder.
        order: Of the rows.
        holes: Which holes the examples get.
        resolution: The base's, in pixels.
    """

    rows: RowFiles
    order: Order
    holes: HoleConfig
    resolution: int

    def batches(self, place: Place, *, epochs: range, encoder: LatentEncoder) -> Batches:
        """As `CachedLatents.batches`; the latents are where the encoder is."""
        share = Share.of(place, self.order, most=_SQUARES_TOGETHER)
        settings = {"resolution": self.resolution, "holes": self.holes, "seed": self.order.seed}
        rows = WindowReader(self.rows, self.order).windows(epochs)
        for columns in _delivered(rows.map(square_columns, fn_kwargs=settings), share):
            squares = [
                Square(picture=picture, mask=mask, truth=truth)
                for picture, mask, truth in zip(
                    *(columns[name] for name in ("picture", "mask", "truth")), strict=True
                )
            ]
            yield columns["number"], encoder.encode(squares)


def _delivered(rows: Any, share: Share) -> Generator[dict[str, np.ndarray]]:
    """A worker's batches of a dataset whose rows are in order."""
    if share.place.size > 1:
        rows = rows.repartition(target_num_rows_per_block=share.together, strict=True)
    yield from split_blocks(rows, share.place).iter_batches(batch_size=share.num_rows)
