"""Scores of segmenters and inpainters on the prepared test split, in one table."""

from __future__ import annotations

from collections.abc import Mapping

from jobs._main import run
from textremove.onray.evaluate import METRICS_FILE, EvaluateJob, Evaluation, evaluate
from textremove.onray.scorer import LOCATION_PRIOR


def main(job: EvaluateJob) -> None:
    """Score segmenters (Dice, IoU; raw and box masks) and inpainters (PSNR inside true masks) on a split."""
    result = evaluate(job, say=lambda line: print(line, flush=True))
    print(describe(result, split=job.split))
    if result.run_id:
        print(f"MLflow run {result.run_id}")
    print(f"wrote {result.out} (means: {result.out / METRICS_FILE}; scores of every example: *.parquet)")


def describe(result: Evaluation, *, split: str) -> str:
    """Says the scores as tables for a person."""
    parts = []
    if result.segmenters:
        columns = {"box_dice": "box Dice", "box_iou": "box IoU", "raw_dice": "raw Dice", "raw_iou": "raw IoU",
                   "found": "found", "seconds": "seconds"}  # fmt: skip
        parts.append(
            _table(f"segmenters, {result.num_examples:,} {split} examples", result.segmenters, columns)
        )
        prior = result.segmenters[LOCATION_PRIOR]["box_dice"]
        for name, scores in result.segmenters.items():
            if name != LOCATION_PRIOR and prior:
                parts.append(
                    f"{name} has {scores['box_dice'] / prior:.2f} times the location prior's box Dice"
                )
    if result.inpainters:
        columns = {"psnr": "PSNR (dB)", "pooled_psnr": "pooled PSNR", "seconds": "seconds"}
        title = f"inpainters inside the true masks, {result.num_examples:,} {split} examples"
        parts.append(_table(title, result.inpainters, columns))
    return "\n".join(parts)


def _table(title: str, rows: Mapping[str, Mapping[str, float]], columns: Mapping[str, str]) -> str:
    width = max(len(name) for name in rows) + 2
    lines = [title, " " * width + "".join(f"{heading:>13}" for heading in columns.values())]
    for name, scores in rows.items():
        lines.append(f"{name:<{width}}" + "".join(f"{scores[column]:>13.4f}" for column in columns))
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
