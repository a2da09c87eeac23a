"""Procedural scenes as PIPE shards: data to learn and try with where there is no PIPE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs._main import run
from textremove.atomic import atomic_dir
from textremove.errors import ConfigError
from textremove.pipe.scene_rows import write_scene_shards
from textremove.pipe.scenes import SceneConfig

_MIN_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class MakeScenesConfig:
    """Which scenes to make.

    Attributes:
        out: Folder to write; gets PIPE/data and PIPE_Masks/data.
        num_scenes: How many scenes; each gives one row or a few.
        seed: Scenes of different seeds have nothing in common.
        size: Side of the pictures in pixels.
        photo_format: "png" keeps every pixel, "jpeg" is what real photos are.
        rows_per_shard: Rows in one parquet file.
        overwrite: Whether to replace what is in `out`.
    """

    out: Path
    num_scenes: int = 3000
    seed: int = 0
    size: int = 128
    photo_format: Literal["png", "jpeg"] = "png"
    rows_per_shard: int = 500
    overwrite: bool = False


def main(config: MakeScenesConfig) -> None:
    """Make procedural scenes and write them as PIPE's parquet shards, as prepare_pipe reads them."""
    if config.num_scenes < 1 or config.rows_per_shard < 1:
        raise ConfigError("--num-scenes and --rows-per-shard must be at least 1")
    if config.size < _MIN_SIZE:
        raise ConfigError(f"--size must be at least {_MIN_SIZE} pixels")
    with atomic_dir(config.out, overwrite=config.overwrite) as partial:
        print(f"making {config.num_scenes:,} scenes of {config.size} px", flush=True)
        num_rows = write_scene_shards(
            partial,
            seed=config.seed,
            num_scenes=config.num_scenes,
            rows_per_shard=config.rows_per_shard,
            config=SceneConfig(size=config.size, photo_format=config.photo_format),
        )
    print(
        f"wrote {num_rows:,} rows to {config.out}; next: python -m jobs.prepare_pipe "
        f"--images {config.out / 'PIPE'} --masks {config.out / 'PIPE_Masks'} --out DIR"
    )


if __name__ == "__main__":
    run(main)
