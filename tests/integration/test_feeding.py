"""Training batches through the real Ray Data: the same ones for one reader as for two."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import ray

from textremove.onray.feeding import Order, Share, StoredSquares, StreamedSquares
from textremove.onray.workers import Place
from textremove.pipe.prepared import count_prepared, prepared_rows

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BATCH = 8
EPOCHS = range(3, 5)
Rows = dict[int, list[str]]  # by position in the global batch


@pytest.fixture
def order(prepared_scenes: Path) -> Order:
    return Order(num_rows=count_prepared(prepared_scenes, split="train"), batch_size=BATCH, seed=1)


def fingerprint(image: np.ndarray, mask: np.ndarray, prompt: str) -> str:
    return f"{prompt} {hash(image.tobytes())} {hash(mask.tobytes())}"


def global_batches(batches: list[list[tuple[np.ndarray, dict[str, np.ndarray]]]]) -> list[list[str]]:
    """What all workers got at every step, by position in the global batch."""
    together = []
    for shares in zip(*batches, strict=True):
        rows = {}
        for positions, columns in shares:
            for k, position in enumerate(positions):
                rows[int(position)] = fingerprint(*(columns[name][k] for name in ("image", "mask", "prompt")))
        assert sorted(rows) == list(range(BATCH))
        together.append([rows[k] for k in range(BATCH)])
    return together


def streamed(squares: StreamedSquares, size: int) -> list[list[str]]:
    """Through `streaming_split`, as the workers do, with readers in processes of their own."""
    together = Share.of(Place(rank=0, size=size), squares.order, most=16).together
    dataset = squares.dataset(EPOCHS, together=together)
    parts = dataset.streaming_split(size, equal=True)
    read = ray.remote(num_cpus=0)(lambda part, rows: list(part.iter_batches(batch_size=rows)))
    shares = [
        Share(place=Place(rank=rank, size=size), batch_size=BATCH, together=together) for rank in range(size)
    ]
    got = ray.get([read.remote(part, share.num_rows) for part, share in zip(parts, shares, strict=True)])
    return global_batches(
        [
            [(share.positions(), columns) for columns in batches]
            for share, batches in zip(shares, got, strict=True)
        ]
    )


def test_one_and_two_workers_are_fed_the_same_batches(prepared_scenes: Path, order: Order) -> None:
    squares = StreamedSquares(data=str(prepared_scenes), side=64, order=order)
    alone = streamed(squares, 1)
    assert len(alone) == 2 * order.num_steps
    assert streamed(squares, 2) == alone
    every = {row["prompt"] for row in prepared_rows(prepared_scenes, split="train", columns=["prompt"])}
    for epoch in (alone[: order.num_steps], alone[order.num_steps :]):
        seen = Counter(row for rows in epoch for row in rows)
        assert len(seen) == order.num_rows
        assert sum(seen.values()) == order.num_steps * BATCH
        assert {row.rsplit(" ", 2)[0] for row in seen} == every
    assert alone[: order.num_steps] != alone[order.num_steps :]

    stored = StoredSquares.of(str(prepared_scenes), side=64, order=order)
    whole, first, second = (
        list(stored.batches(Place(rank=rank, size=size), epochs=EPOCHS))
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    assert global_batches([first, second]) == global_batches([whole])
    assert {row for rows in global_batches([whole]) for row in rows} == {
        row for rows in alone for row in rows
    }


def test_training_may_pause_for_longer_than_a_standstill(
    order: Order, prepared_scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does to validate; meanwhile all queues are full, and nothing moves."""
    monkeypatch.setattr(ray.data.DataContext.get_current(), "execution_no_progress_timeout_s", 2)
    squares = StreamedSquares(data=str(prepared_scenes), side=256, order=order)
    batches = squares.batches(Place(rank=0, size=1), epochs=range(1, 100))
    next(batches)
    time.sleep(12)
    # More than was read ahead. Without patience the stream is over, and raises ExecutionTimeoutError.
    after = list(islice(batches, 200))
    batches.close()
    assert [columns["image"].shape for _, columns in after] == 200 * [(BATCH, 256, 256, 3)]
