"""What an evaluation came to, and where it is kept: files in its folder, figures in MLflow."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textremove.checkpoint import MANIFEST_FILE, read_manifest
from textremove.onray.tracking import join_run, run_is_known
from textremove.scores import Summary
from textremove.tracking import Tracker

METRICS_FILE = "metrics.json"

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of it; also in metrics.json.

    Attributes:
        out: Folder with the page, metrics.json, segment.parquet and inpaint.parquet (one row per example and
            model), and the statistics as CSV tables.
        run_id: The MLflow run; "" when nothing was tracked.
        num_examples: How many were scored.
        segment: Scores of the segmenters, with intervals, by group, and in pairs.
        inpaint: Likewise of the inpainters.
    """

    out: Path
    run_id: str
    num_examples: int
    segment: Summary
    inpaint: Summary

    @property
    def segmenters(self) -> dict[str, dict[str, float]]:
        """Means by segmenter and score."""
        return self.segment.means

    @property
    def inpainters(self) -> dict[str, dict[str, float]]:
        """Means by inpainter and score."""
        return self.inpaint.means


def write_scores(
    result: Evaluation,
    segment_rows: Rows,
    inpaint_rows: Rows,
    folder: Path,
    *,
    split: str,
    settings: Mapping[str, Any],
) -> None:
    """Writes rows as parquet, their statistics as CSV tables, and everything but the rows as metrics.json."""
    for rows, summary, name in (
        (segment_rows, result.segment, "segment"),
        (inpaint_rows, result.inpaint, "inpaint"),
    ):
        if rows:
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
            _write_table(summary.score_rows(), folder / f"{name}-scores.csv")
            _write_table(summary.pair_rows(), folder / f"{name}-pairs.csv")
    metrics = {
        "split": split,
        "num_examples": result.num_examples,
        "segmenters": result.segmenters,
        "inpainters": result.inpainters,
        "statistics": {"segment": result.segment.as_json(), "inpaint": result.inpaint.as_json()},
        "settings": settings,
        "run_id": result.run_id,
    }
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n")


def log_scores(result: Evaluation, tracker: Tracker, folder: Path) -> None:
    """Tells MLflow the means with the ends of their intervals, and gives it every file of the folder."""
    metrics: dict[str, float] = {}
    for summary in (result.segment, result.inpaint):
        for name, scores in summary.models.items():
            allowed = re.sub(r"[^\w./ -]", "-", name, flags=re.ASCII)
            for score, estimate in scores.items():
                ends = {"": estimate.mean, "_low": estimate.low, "_high": estimate.high}
                metrics |= {f"{allowed}.{score}{end}": v for end, v in ends.items() if v is not None}
    tracker.log_metrics(metrics)
    tracker.log_artifacts(folder, name="evaluation")


def tell_makers(models: Mapping[str, Mapping[str, float]], uri: str, *, split: str, data: str) -> None:
    """Tells the runs that made the models what their models score, for promotion to go by.

    Args:
        models: Means by score, by the folder of the model; one that no run of this store made is passed over.
        uri: The MLflow store.
        split: What was scored, the first part of the metrics' names: "test_box_dice".
        data: Names the examples; scores on other examples are not compared.
    """
    for source, scores in models.items():
        run_id = _run_that_made(source)
        if run_id and run_is_known(uri, run_id):
            made_by = join_run(uri, run_id)
            made_by.log_metrics({f"{split}_{name}": value for name, value in scores.items()})
            made_by.set_tags({f"{split}_data": data})


def _run_that_made(source: str) -> str:
    if not (Path(source) / MANIFEST_FILE).is_file():
        return ""
    return str(read_manifest(source)["metadata"].get("run_id", ""))


def _write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    if rows:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
