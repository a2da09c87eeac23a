"""PIPE's parquet shards to a folder of removal examples, split by photo."""

from __future__ import annotations

from jobs._main import run
from textremove.onray.prepare import PAGE_FILE, PrepareConfig, prepare
from textremove.pipe.prepared import DATASET_FILE
from textremove.pipe.summary import describe


def main(config: PrepareConfig) -> None:
    """Turn PIPE's parquet shards into removal examples: roles swapped, masks joined, split by photo."""
    info = prepare(config)
    print(describe(info))
    print(
        f"wrote {config.out} (what is in it: {config.out}/{DATASET_FILE}; "
        f"to look at: {config.out}/{PAGE_FILE})"
    )


if __name__ == "__main__":
    run(main)
