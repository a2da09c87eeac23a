"""Scores of segmenters and inpainters on a prepared split: a page, and one table in the shell."""

from __future__ import annotations

from collections.abc import Mapping

from jobs._main import run
from textremove.onray.evaluate import PAGE_FILE, EvaluateJob, evaluate
from textremove.onray.evaluation import METRICS_FILE, Evaluation
from textremove.onray.scorer import LOCATION_PRIOR
from textremove.report.scores import with_interval
from textremove.statistics import Estimate

_SEGMENT_COLUMNS = {
    "box_dice": "box Dice", "box_iou": "box IoU", "raw_dice": "raw Dice", "raw_iou": "raw IoU",
    "raw_box_dice": "raw/box Dice", "found": "found", "seconds": "seconds",
}  # fmt: skip
_INPAINT_COLUMNS = {
    "psnr": "PSNR (dB)", "success": "success", "ssim": "SSIM", "band_psnr": "band PSNR", "seconds": "seconds",
}  # fmt: skip


def main(job: EvaluateJob) -> None:
    """Score segmenters (Dice, IoU; raw and box masks) and ways of filling the true masks on a split."""
    result = evaluate(job, say=lambda line: print(line, flush=True))
    print(describe(result, split=job.split))
    if result.run_id:
        print(f"MLflow run {result.run_id}")
    print(f"wrote {result.out} (to look at: {result.out / PAGE_FILE}; figures: {result.out / METRICS_FILE}; "
          "scores of every example: *.parquet)")  # fmt: skip


def describe(result: Evaluation, *, split: str) -> str:
    """Says the scores as tables for a person, what decides with its 95% interval."""
    parts = []
    if result.segmenters:
        title = f"segmenters, {result.num_examples:,} {split} examples"
        parts.append(_table(title, result.segment.models, _SEGMENT_COLUMNS, digits=3))
        prior = result.segmenters[LOCATION_PRIOR]["box_dice"]
        for name, scores in result.segmenters.items():
            if name != LOCATION_PRIOR and prior:
                parts.append(
                    f"{name} has {scores['box_dice'] / prior:.2f} times the location prior's box Dice"
                )
    if result.inpainters:
        title = f"fillings of the true masks, {result.num_examples:,} {split} examples"
        parts.append(_table(title, result.inpaint.models, _INPAINT_COLUMNS, digits=3, intervals=2))
    return "\n".join(parts)


def _table(
    title: str,
    rows: Mapping[str, Mapping[str, Estimate]],
    columns: Mapping[str, str],
    *,
    digits: int,
    intervals: int = 1,
) -> str:
    """The first columns with their intervals, the others without: a shell is narrow. None that nobody has."""
    columns = {c: heading for c, heading in columns.items() if all(c in scores for scores in rows.values())}
    sure = list(columns)[:intervals]
    width = max(len(name) for name in rows) + 2
    lines = [title, " " * width + "".join(f"{h:>{25 if c in sure else 13}}" for c, h in columns.items())]
    for name, scores in rows.items():
        cells = [
            f"{with_interval(scores[column], digits):>25}"
            if column in sure
            else f"{scores[column].mean:>13.{digits}f}"
            for column in columns
        ]
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
