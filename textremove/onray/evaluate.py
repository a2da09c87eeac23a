"""Evaluates segmenters and inpainters on a prepared split through Ray Data: scores per sample, and means."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.expressions import col

from textremove.atomic import atomic_dir
from textremove.checkpoint import MANIFEST_FILE, read_manifest
from textremove.errors import ConfigError
from textremove.images import decode_mask
from textremove.inpaint.metrics import pooled_psnr
from textremove.onray.cluster import connect
from textremove.onray.datasets import read_prepared
from textremove.onray.models import absolute, short
from textremove.onray.progress import Say
from textremove.onray.scorer import LOCATION_PRIOR, InpainterSpec, Scorer, ScorerConfig
from textremove.onray.tracking import (
    NO_TRACKING,
    TrackingConfig,
    join_run,
    resolve_uri,
    run_is_known,
    tracked_run,
)
from textremove.onray.trainer import Device, as_json, check_out, cpus_per_worker, uses_gpu
from textremove.pipe.prepared import check_truth, prepared_files, prepared_rows, read_dataset_info
from textremove.presets import load_segmenter, shipped
from textremove.segment.location_prior import LocationPriorSegmenter
from textremove.tracking import Tracker

METRICS_FILE = "metrics.json"
SEGMENT_FILE, INPAINT_FILE = "segment.parquet", "inpaint.parquet"
LORA, BASE, CLASSICAL = "lora", "base", "telea"

_SEGMENT_SCORES = ("box_dice", "box_iou", "raw_dice", "raw_iou", "found", "seconds")
_SAY_EVERY_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """What to evaluate, on what.

    Attributes:
        data: Folder of prepared examples, a path or an s3:// address.
        out: Folder for the scores; appears whole or not at all.
        segmenter: tiny, clipseg, sam3, grounded-sam2, zero-shot, folders, hub ids or DETECTOR+SAM2; the
            location prior, fitted on the training split, is always scored beside them. Empty for none.
        base: The base inpainter ("tiny-base", "paper", a folder or hub id); scored with and without its
            adapter, and OpenCV's Telea beside it. "" for none.
        adapter: Folder of its adapter; for tiny-base, the one that comes with the package unless said.
        num_steps: Denoising steps; by default the preset's own.
        split: Which split.
        limit: Only so many examples, always the same ones; 0 for all.
        seed: With an example's id it gives the seed that all inpainters share on it.
        num_actors: Processes that score.
        device: Where they compute: "auto" takes GPUs where there is one for each.
        overwrite: Whether to replace what is in `out`.
        tracking: Where the run is remembered.
        address: A running Ray cluster; by default RAY_ADDRESS, else a local Ray is started.
    """

    data: str
    out: Path
    segmenter: tuple[str, ...] = ("tiny",)
    base: str = "tiny-base"
    adapter: str | None = None
    num_steps: int | None = None
    split: str = "test"
    limit: int = 0
    seed: int = 0
    num_actors: int = 2
    device: Device = "auto"
    overwrite: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of it; also in metrics.json.

    Attributes:
        out: Folder with metrics.json, segment.parquet and inpaint.parquet (one row per example and model).
        run_id: The MLflow run; "" when nothing was tracked.
        num_examples: How many were scored.
        segmenters: By segmenter, means: "box_dice", "box_iou", "raw_dice", "raw_iou", "found", "seconds".
        inpainters: By inpainter: "psnr" (mean over samples), "pooled_psnr", "seconds".
    """

    out: Path
    run_id: str
    num_examples: int
    segmenters: dict[str, dict[str, float]]
    inpainters: dict[str, dict[str, float]]


def evaluate(job: EvaluateJob, *, say: Say = print) -> Evaluation:
    """Scores everything asked for on one split.

    Args:
        job: What, on what.
        say: Takes lines for a person.

    Raises:
        UserError: Something of the job cannot be used as it is; nothing is written.
    """
    info = _check(job)
    chosen = _chosen_ids(job)
    segmenters, inpainters = _named_segmenters(job), _named_inpainters(job)
    params = as_json(job) | {"data_fingerprint": info["fingerprint"]}
    with (
        atomic_dir(job.out, overwrite=job.overwrite) as partial,
        connect(job.address),
        tracked_run(job.tracking, name=job.out.name, kind="evaluate", params=params) as tracker,
    ):
        config = ScorerConfig(
            segmenters=segmenters,
            prior_boxes=_prior_boxes(job, say) if segmenters else {},
            inpainters=inpainters,
            seed=job.seed,
            gpu=uses_gpu(job.device, job.num_actors),
        )
        segment_rows, inpaint_rows = _score(job, config, chosen, say)
        result = Evaluation(
            out=job.out,
            run_id=tracker.run_id,
            num_examples=len(chosen),
            segmenters=_mean_segment_scores(segment_rows),
            inpainters=_mean_inpaint_scores(inpaint_rows),
        )
        for rows, name in ((segment_rows, SEGMENT_FILE), (inpaint_rows, INPAINT_FILE)):
            if rows:
                pq.write_table(pa.Table.from_pylist(rows), partial / name)
        summary = {
            "split": job.split,
            "num_examples": result.num_examples,
            "segmenters": result.segmenters,
            "inpainters": result.inpainters,
            "settings": params,
            "run_id": tracker.run_id,
        }
        (partial / METRICS_FILE).write_text(json.dumps(summary, indent=2) + "\n")
        _log(job, result, tracker, partial, data=f"{info['fingerprint'][:12]}, {len(chosen)} examples")
    return result


def _check(job: EvaluateJob) -> dict[str, Any]:
    """Complains about the job before anything slow starts; gives what dataset.json says."""
    info = read_dataset_info(job.data)
    prepared_files(job.data, split=job.split)
    if job.base:
        check_truth(job.data)
    check_out(job.out, overwrite=job.overwrite)
    if job.limit < 0:
        raise ConfigError("--limit takes a positive number, or 0 for no limit")
    if job.num_actors < 1:
        raise ConfigError("--num-actors must be at least 1")
    if not job.segmenter and not job.base:
        raise ConfigError("nothing to evaluate; name a --segmenter or a --base")
    for name in job.segmenter:
        load_segmenter(name)  # fails here in one line, not in an actor
    if job.adapter and not Path(job.adapter).is_dir():
        raise ConfigError(f"--adapter {job.adapter}: there is no such folder")
    return info


def _chosen_ids(job: EvaluateJob) -> frozenset[str]:
    """Ids of the examples to score: with a limit, those whose hashes come first. Neighbours are no sample."""
    ids = [row["example_id"] for row in prepared_rows(job.data, split=job.split, columns=["example_id"])]
    ids.sort(key=lambda example_id: hashlib.sha256(example_id.encode()).digest())
    return frozenset(ids[: job.limit or None])


def _named_segmenters(job: EvaluateJob) -> dict[str, str]:
    """What each segmenter is called in the results: its preset, or the last part of its folder's name."""
    named: dict[str, str] = {}
    for source in job.segmenter:
        name = short(source)
        while name in named or name == LOCATION_PRIOR:
            name += "+"
        named[name] = absolute(source)
    return named


def _named_inpainters(job: EvaluateJob) -> dict[str, InpainterSpec]:
    if not job.base:
        return {}
    base = str(Path(job.base).resolve()) if Path(job.base).is_dir() else job.base
    adapter = str(Path(job.adapter).resolve()) if job.adapter else None
    if adapter is None and base == "tiny-base":
        adapter = str(shipped("adapter"))
    specs = {
        BASE: InpainterSpec(name=base, num_steps=job.num_steps),
        CLASSICAL: InpainterSpec(name=CLASSICAL),
    }
    if adapter is None:
        return specs
    return {LORA: InpainterSpec(name=base, adapter=adapter, num_steps=job.num_steps), **specs}


def _prior_boxes(job: EvaluateJob, say: Say) -> dict[str, tuple[float, float, float, float]]:
    rows = prepared_rows(job.data, split="train", columns=["prompt", "mask"])
    prior = LocationPriorSegmenter.fit((row["prompt"], decode_mask(row["mask"])) for row in rows)
    say(f"location prior: mean boxes of {len(prior.boxes) - 1} place phrases of the training split")
    return prior.boxes


def _score(
    job: EvaluateJob, config: ScorerConfig, chosen: frozenset[str], say: Say
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs the scorers; gives rows of segmenters and of inpainters, in the order of their example ids."""
    cpus = cpus_per_worker(job.num_actors, ray.cluster_resources().get("CPU", 0.0))
    examples = read_prepared(job.data, split=job.split, num_blocks=max(4, 2 * job.num_actors))
    scored = examples.filter(expr=col("example_id").is_in(sorted(chosen))).map(
        Scorer,
        fn_constructor_args=(config,),
        compute=ray.data.ActorPoolStrategy(size=job.num_actors),
        num_cpus=cpus,
        num_gpus=1 if config.gpu else 0,
    )
    segment_rows: list[dict[str, Any]] = []
    inpaint_rows: list[dict[str, Any]] = []
    said = time.monotonic()
    for number, row in enumerate(scored.iter_rows(), start=1):
        if row["failure"]:
            raise ConfigError(row["failure"])
        segment_rows += json.loads(row["segment"])
        inpaint_rows += json.loads(row["inpaint"])
        if time.monotonic() - said > _SAY_EVERY_SECONDS or number == len(chosen):
            said = time.monotonic()
            say(f"scored {number:,} of {len(chosen):,} examples")
    by_example: Callable[[dict[str, Any]], str] = lambda row: row["example_id"]  # noqa: E731
    return sorted(segment_rows, key=by_example), sorted(inpaint_rows, key=by_example)


def _mean_segment_scores(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        name: {score: float(np.mean([row[score] for row in group])) for score in _SEGMENT_SCORES}
        for name, group in _grouped(rows, "segmenter").items()
    }


def _mean_inpaint_scores(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "psnr": float(np.mean([row["psnr"] for row in group])),
            "pooled_psnr": pooled_psnr(
                (row["squared_error"] for row in group), (row["num_pixels"] for row in group)
            ),
            "seconds": float(np.mean([row["seconds"] for row in group])),
        }
        for name, group in _grouped(rows, "inpainter").items()
    }


def _grouped(rows: list[dict[str, Any]], column: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def _log(job: EvaluateJob, result: Evaluation, tracker: Tracker, folder: Path, *, data: str) -> None:
    """Tells MLflow: this run everything, and the runs that made the models their own test scores."""
    for group in (result.segmenters, result.inpainters):
        for name, scores in group.items():
            safe = name.replace("+", "-")
            tracker.log_metrics({f"{safe}.{score}": value for score, value in scores.items()})
    tracker.log_artifacts(folder, name="evaluation")
    if job.tracking.tracking_uri == NO_TRACKING:
        return
    uri = resolve_uri(job.tracking.tracking_uri)
    models = {source: result.segmenters[name] for name, source in _named_segmenters(job).items()}
    if job.adapter:
        models[job.adapter] = result.inpainters[LORA]
    for source, scores in models.items():
        run_id = _run_that_made(source)
        if run_id and run_is_known(uri, run_id):
            made_by = join_run(uri, run_id)
            made_by.log_metrics({f"{job.split}_{name}": value for name, value in scores.items()})
            made_by.set_tags({f"{job.split}_data": data})  # scores on other examples are not compared


def _run_that_made(source: str) -> str:
    if not (Path(source) / MANIFEST_FILE).is_file():
        return ""
    return str(read_manifest(source)["metadata"].get("run_id", ""))
