"""Feeding training: Ray Data's batches against a torch DataLoader's on the same files, once both run.

python -m benchmarks.feeding
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import tyro
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks._measure import write_result
from benchmarks._shards import make_shards
from textremove.images import decode_image, decode_mask
from textremove.letterbox import Letterbox
from textremove.onray.cluster import connect
from textremove.onray.feeding import StreamedSquares
from textremove.onray.prepare import PrepareConfig, prepare
from textremove.onray.windows import Order
from textremove.onray.workers import Place
from textremove.pipe.prepared import count_prepared, prepared_files


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is fed.

    Attributes:
        data: A prepared folder; made of procedural scenes of 512 px when it is not there.
        num_rows: So many of them.
        side: Side of the squares in pixels.
        batch_size: Examples in a batch.
        num_examples: Examples timed on each side; so many that what is decoded ahead hardly counts.
        num_warmup: Examples before those that are not timed, while processes still start and import.
        num_processes: Reading processes of each side.
        rounds: Times that the two sides are run in turn; the median counts.
        measure: Used by the command itself: one side, in a process of its own.
    """

    data: str = "runs/benchmarks/prepared-512"
    num_rows: int = 4000
    side: int = 512
    batch_size: int = 16
    num_examples: int = 14000
    num_warmup: int = 2000
    num_processes: int = 2
    rounds: int = 3
    measure: str = ""


def main(config: Config) -> None:
    """Measure examples per second that reach a training loop, both sides in turn."""
    if config.measure:
        batches = _ray_batches(config) if config.measure == "ray" else _torch_batches(config)
        with closing(batches):  # before the connection that it reads through
            print(json.dumps(_rate(batches, config)))
        return
    _make_data(config)
    rates: dict[str, list[float]] = {"ray": [], "torch": []}
    for _ in range(config.rounds):
        for side, seen in rates.items():
            seen.append(_measured(config, side))
            print(f"{side}: {seen[-1]:.0f} examples per second", flush=True)
    write_result(
        "feeding",
        {
            "side": config.side,
            "batch_size": config.batch_size,
            "num_processes": config.num_processes,
            "examples": config.num_examples,
            "warmup_examples": config.num_warmup,
            "ray_examples_per_second": rates["ray"],
            "torch_examples_per_second": rates["torch"],
            "ray_over_torch": median(rates["ray"]) / median(rates["torch"]),
        },
    )


def _make_data(config: Config) -> None:
    data = Path(config.data)
    if data.exists():
        return
    shards = data.with_name(f"shards-{config.num_rows}")
    make_shards(shards, num_rows=config.num_rows)
    prepare(PrepareConfig(images=f"{shards}/PIPE", masks=f"{shards}/PIPE_Masks", out=config.data))


def _measured(config: Config, side: str) -> float:
    command = [sys.executable, "-m", "benchmarks.feeding", "--measure", side, "--data", config.data]
    for name in ("side", "batch_size", "num_examples", "num_warmup", "num_processes"):
        command += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _rate(batches: Generator[Any], config: Config) -> float:
    """Examples per second once everything runs; the batches never end."""
    _take(batches, config.num_warmup)
    started = time.perf_counter()
    return _take(batches, config.num_examples) / (time.perf_counter() - started)


def _take(batches: Generator[Any], num_examples: int) -> int:
    seen = 0
    while seen < num_examples:
        seen += len(next(batches)["image"])
    return seen


def _ray_batches(config: Config) -> Generator[dict[str, np.ndarray]]:
    with connect(num_cpus=config.num_processes):
        rows = count_prepared(config.data, split="train")
        order = Order(num_rows=rows, batch_size=config.batch_size, seed=0)
        squares = StreamedSquares(data=config.data, side=config.side, order=order)
        epochs = range(1, 2 + math.ceil((config.num_warmup + config.num_examples) / rows))
        with closing(squares.batches(Place(rank=0, size=1), epochs=epochs)) as batches:
            for _, batch in batches:
                yield batch


class _Files(IterableDataset[dict[str, np.ndarray]]):
    """Each worker reads every so many files, a row group at a time, over and over."""

    def __init__(self, config: Config) -> None:
        self.files, self.side = prepared_files(config.data, split="train"), config.side

    def __iter__(self) -> Generator[dict[str, np.ndarray]]:
        worker = get_worker_info()
        for path in cycle(self.files[worker.id :: worker.num_workers]):
            with pq.ParquetFile(Path(path)) as parquet:
                for group in range(parquet.num_row_groups):
                    for row in parquet.read_row_group(group, columns=["image", "mask"]).to_pylist():
                        image, mask = decode_image(row["image"]), decode_mask(row["mask"])
                        box = Letterbox(side=self.side, height=image.shape[0], width=image.shape[1])
                        yield {"image": box.image(image), "mask": box.mask(mask)}


def _torch_batches(config: Config) -> Generator[dict[str, torch.Tensor]]:
    yield from DataLoader(_Files(config), batch_size=config.batch_size, num_workers=config.num_processes)


if __name__ == "__main__":
    main(tyro.cli(Config, description=main.__doc__))
