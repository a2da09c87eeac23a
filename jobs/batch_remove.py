"""Remove something from every photo of a folder, a table or a prepared folder."""

from __future__ import annotations

from jobs._main import run
from textremove.onray.batch import BatchConfig, describe, run_batch


def main(config: BatchConfig) -> None:
    """Remove what the prompts name from every photo; a rerun on the same --out does what is not done yet."""
    result = run_batch(config)
    print(describe(result))
    print(f"wrote {config.out} (one row per input: {result.manifest})")


if __name__ == "__main__":
    run(main)
