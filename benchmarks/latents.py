"""Latents that are kept against the VAE in every step: steps per second of the tiny fine-tune, in one run.

python -m benchmarks.latents
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import tyro

from benchmarks._measure import write_result
from jobs.recipes import INPAINTER_RECIPES
from textremove.onray.cluster import connect
from textremove.onray.finetune_inpainter import InpainterJob, finetune_inpainter
from textremove.onray.prepare import PrepareConfig, prepare
from textremove.onray.tracking import TrackingConfig
from textremove.pipe.scene_rows import write_scene_shards
from textremove.pipe.scenes import SceneConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is timed.

    Attributes:
        folder: For data and adapters; the data is made when it is not there.
        num_scenes: Scenes at the tiny base's size, each of which gives a few examples.
        num_workers: Of the training.
        limit: Training examples of an epoch.
        epochs: Epochs of each training; the first one is not timed.
        rounds: Times that the two sides are run in turn; the median of the paired ratios counts.
    """

    folder: Path = Path("runs/benchmarks/latents")
    num_scenes: int = 120
    num_workers: int = 1
    limit: int = 160
    epochs: int = 3
    rounds: int = 2


def main(config: Config) -> None:
    """Measure steps per second with latents kept and without, in turn."""
    data = config.folder / "prepared"
    rates: dict[str, list[float]] = {"true": [], "false": []}
    recipe = INPAINTER_RECIPES["tiny"]
    job = replace(
        recipe,
        data=str(data),
        out=config.folder / "adapter",
        limit=config.limit,
        num_validation=8,
        num_workers=config.num_workers,
        training=replace(recipe.training, epochs=config.epochs),
        tracking=TrackingConfig(tracking_uri="none"),
        overwrite=True,
    )
    with connect():
        if not data.is_dir():
            _prepare(config, data)
        for number in range(config.rounds):
            for kept in sorted(rates, reverse=number % 2 == 1):  # neither is always the first
                rates[kept].append(_steps_per_second(replace(job, cache_latents=kept)))
                print(f"--cache-latents {kept}: {rates[kept][-1]:.2f} steps per second", flush=True)
    write_result(
        "latents",
        {
            "base": job.base,
            "precision": job.precision,
            "batch_size": job.training.batch_size,
            "num_workers": config.num_workers,
            "examples": config.limit,
            "timed_epochs": config.epochs - 1,
            "kept_steps_per_second": rates["true"],
            "encoded_steps_per_second": rates["false"],
            "kept_over_encoded": median(
                kept / encoded for kept, encoded in zip(rates["true"], rates["false"], strict=True)
            ),
        },
    )


def _prepare(config: Config, data: Path) -> None:
    shards = config.folder / "shards"
    shutil.rmtree(shards, ignore_errors=True)
    write_scene_shards(
        shards, seed=0, num_scenes=config.num_scenes, rows_per_shard=64, config=SceneConfig(size=128)
    )
    prepare(PrepareConfig(images=str(shards / "PIPE"), masks=str(shards / "PIPE_Masks"), out=str(data)))


def _steps_per_second(job: InpainterJob) -> float:
    """Of the epochs after the first, in which readers and memory warm up."""
    result = finetune_inpainter(job, say=lambda line: print(line, flush=True))
    return median(epoch["steps_per_second"] for epoch in result.history[1:])


if __name__ == "__main__":
    main(tyro.cli(Config, description=main.__doc__))
