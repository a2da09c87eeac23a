"""Training: a step under Ray Train against the same step under torchrun, two processes on CPUs each.

python -m benchmarks.training

Both run `timed_steps` below: the model, batches from memory, the step of `textremove.segment.training`,
batch norm and gradients over both processes through gloo, and as many threads. Feeding is another benchmark.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch.distributed as dist
import tyro
from torch.nn.parallel import DistributedDataParallel

from benchmarks._measure import write_result
from textremove.onray.batch_norm import synchronise_batch_norm
from textremove.onray.cluster import connect
from textremove.onray.trainer import Unfinished, fit
from textremove.onray.workers import in_parallel
from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.tiny import build_tiny_segmenter
from textremove.segment.training import SegmenterTrainConfig, TrainingStep, build_optimizer

_PROCESSES = 2
_PROMPTS = ("ball at the left", "box at the right", "ball at the top", "box at the center")
_TRAINING = SegmenterTrainConfig(batch_size=16)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is timed.

    Attributes:
        num_steps: Steps timed on each side and in each round, after some that are not.
        rounds: Times that the two sides are run in turn; the median of the paired ratios counts.
        measure: Used by the command itself: the file for what one torchrun process measures.
    """

    num_steps: int = 40
    rounds: int = 3
    measure: str = ""


def main(config: Config) -> None:
    """Measure seconds per step under Ray Train and under torchrun, in turn."""
    if config.measure:
        _torchrun_process(config)
        return
    seconds: dict[str, list[float]] = {"ray": [], "torchrun": []}
    for number in range(config.rounds):
        sides = {"ray": _under_ray, "torchrun": _under_torchrun}
        for side in sorted(sides, reverse=number % 2 == 1):  # neither is always the first
            seconds[side].append(median(sides[side](config)))
            print(f"{side}: {seconds[side][-1]:.4f} s per step", flush=True)
    ratios = [ray / torchrun for ray, torchrun in zip(seconds["ray"], seconds["torchrun"], strict=True)]
    write_result(
        "training",
        {
            "model": "tiny, 128 px",
            "batch_size": _TRAINING.batch_size,
            "num_processes": _PROCESSES,
            "num_steps": config.num_steps,
            "ray_step_seconds": seconds["ray"],
            "torchrun_step_seconds": seconds["torchrun"],
            "ray_over_torchrun": median(ratios),
        },
    )


def timed_steps(model: ConditionedUNet, wrapped: DistributedDataParallel, num_steps: int) -> list[float]:
    """What both sides run in both processes: seconds of every step."""
    optimizer = build_optimizer(model, _TRAINING)
    step = TrainingStep(model, _TRAINING, optimizer, bfloat16=False, wrapped=wrapped)
    share, side = _TRAINING.batch_size // _PROCESSES, model.config.image_size
    rng = np.random.default_rng(dist.get_rank())
    pictures = rng.integers(0, 256, (4, share, side, side, 3), dtype=np.uint8)
    masks = np.where(rng.random((4, share, side, side)) < 0.2, 255, 0).astype(np.uint8)
    prompts = [_PROMPTS[k % len(_PROMPTS)] for k in range(share)]
    model.train()
    seconds = []
    for k in range(num_steps + 5):
        started = time.perf_counter()
        step(pictures[k % 4], masks[k % 4], prompts)
        seconds.append(time.perf_counter() - started)
    return seconds[5:]


def _model() -> ConditionedUNet:
    words = {word for prompt in _PROMPTS for word in prompt.split()}
    return build_tiny_segmenter(words, seed=0)


def _ray_worker(config: dict[str, Any]) -> None:
    model = _model()
    seconds = timed_steps(model, in_parallel(model, _TRAINING), config["num_steps"])
    if dist.get_rank() == 0:
        Path(config["file"]).write_text(json.dumps(seconds))


def _under_ray(config: Config) -> list[float]:
    # Run as a command this module is __main__, whose functions would travel by value; those of this import
    # are named to the workers, which import them.
    from benchmarks.training import _ray_worker as loop

    with tempfile.TemporaryDirectory() as folder, connect():
        file = Path(folder) / "seconds.json"
        unfinished = Unfinished(Path(folder) / "model", "benchmark", asdict(config))
        loop_config = {"file": str(file), "num_steps": config.num_steps}
        fit(loop, loop_config, unfinished=unfinished, num_workers=_PROCESSES, gpu=False)
        return _read(file)


def _torchrun_process(config: Config) -> None:
    dist.init_process_group("gloo")
    model = _model()
    synchronise_batch_norm(model)
    wrapped = DistributedDataParallel(model)
    seconds = timed_steps(model, wrapped, config.num_steps)
    if dist.get_rank() == 0:
        Path(config.measure).write_text(json.dumps(seconds))
    dist.barrier()
    del wrapped  # gloo can abort at teardown while it is there
    dist.destroy_process_group()


def _under_torchrun(config: Config) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seconds.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={_PROCESSES}", "-m", "benchmarks.training"]
        command += ["--measure", str(file), "--num-steps", str(config.num_steps)]
        threads = max(1, len(os.sched_getaffinity(0)) // _PROCESSES)  # as `fit` gives its workers
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        subprocess.run(command, check=True, env=environment)
        return _read(file)


def _read(file: Path) -> list[float]:
    seconds: list[float] = json.loads(file.read_text())
    return seconds


if __name__ == "__main__":
    main(tyro.cli(Config, description=main.__doc__))
