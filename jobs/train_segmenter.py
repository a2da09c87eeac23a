"""Prepared examples to a trained ConditionedUNet, over Ray Train workers."""

from __future__ import annotations

from jobs._main import run
from jobs.recipes import SEGMENTER_RECIPES, recipe_parser
from textremove.onray.train_segmenter import SegmenterJob, train_segmenter


def main(job: SegmenterJob) -> None:
    """Train a segmenter on prepared examples, keep its best epoch, choose its threshold on validation."""
    result = train_segmenter(job, say=lambda line: print(line, flush=True))
    scores = ", ".join(
        f"{name.removeprefix('val_').replace('_', ' ')} {value:.4f}"
        for name, value in result.metrics.items()
        if name.startswith("val_")
    )
    print(f"started from {result.started_from}; best epoch {result.best_epoch} of {result.epochs}: {scores}")
    print(f"chosen on validation: threshold {result.threshold}, {result.strategy} masks")
    if result.run_id:
        print(f"MLflow run {result.run_id}")
    print(
        f"wrote {result.out}; next: python -m jobs.evaluate --data {job.data} "
        f"--segmenter {result.out} --out DIR"
    )


parse = recipe_parser(main, SEGMENTER_RECIPES)

if __name__ == "__main__":
    run(main, parse=parse)
