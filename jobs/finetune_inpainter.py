"""Prepared examples to a LoRA adapter for an inpainting base, over Ray Train workers."""

from __future__ import annotations

from jobs._main import run
from jobs.recipes import INPAINTER_RECIPES, recipe_parser
from textremove.onray.finetune_inpainter import InpainterJob, finetune_inpainter


def main(job: InpainterJob) -> None:
    """Fine-tune a LoRA adapter on a frozen inpainting base, without words, to rebuild what lies behind."""
    result = finetune_inpainter(job, say=lambda line: print(line, flush=True))
    print(
        f"base frozen: all {result.num_frozen:,} weights of its UNet are the same before and after "
        f"(sha256 {result.base_digest[:12]}); the adapter has {result.num_trainable:,}"
    )
    print(
        f"validation loss {result.metrics['base_val_loss']:.4f} without it, "
        f"{result.metrics['val_loss']:.4f} with it"
    )
    if result.run_id:
        print(f"MLflow run {result.run_id}")
    print(
        f"wrote {result.out}; next: python -m jobs.evaluate --data {job.data} "
        f"--adapter {result.out} --out DIR"
    )


parse = recipe_parser(main, INPAINTER_RECIPES)

if __name__ == "__main__":
    run(main, parse=parse)
