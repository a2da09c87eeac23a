"""Evaluates segmenters and inpainters on a prepared split through Ray Data: scores, statistics, a page."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data.expressions import col

from textremove.atomic import atomic_dir
from textremove.errors import ConfigError, DatasetError
from textremove.groups import GROUPS
from textremove.images import decode_image, decode_mask
from textremove.onray.cluster import connect
from textremove.onray.datasets import read_prepared
from textremove.onray.evaluated_models import CLASSICAL, LORA, named_inpainters, named_segmenters
from textremove.onray.evaluation import Evaluation, Rows, log_scores, tell_makers, write_scores
from textremove.onray.progress import Say
from textremove.onray.scorer import MaskFinder, Scorer, ScorerConfig
from textremove.onray.tracking import NO_TRACKING, TrackingConfig, resolve_uri, tracked_run
from textremove.onray.trainer import Device, as_json, check_out, cpus_per_worker, git_revision, uses_gpu
from textremove.pipe.prepared import check_truth, prepared_files, prepared_rows, read_dataset_info
from textremove.presets import check_models
from textremove.report.cases import Case
from textremove.report.evaluation import evaluation_report
from textremove.report.filling import INPAINT_PAIRED, INPAINT_SCORES
from textremove.report.page import write_report
from textremove.report.scores import Scored
from textremove.report.segmenting import BOX_DICE, SEGMENT_PAIRED, SEGMENT_SCORES
from textremove.scores import Summary, extremes, summarise
from textremove.segment.location_prior import LocationPriorSegmenter

PAGE_FILE = "evaluation.html"

_CASES_OF_A_KIND = 4
_SAY_EVERY_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """What to evaluate, on what.

    Attributes:
        data: Folder of prepared examples, a path or an s3:// address.
        out: Folder for the scores; appears whole or not at all.
        segmenter: Segmenters, as `textremove.presets.load_segmenter` takes them; the location prior, fitted
            on the training split, is always scored beside them. Empty for none.
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
    segmenters = named_segmenters(job.segmenter)
    params = as_json(job) | {"data_fingerprint": info["fingerprint"]}
    with (
        atomic_dir(job.out, overwrite=job.overwrite) as partial,
        connect(job.address),
        tracked_run(job.tracking, name=job.out.name, kind="evaluate", params=params) as tracker,
    ):
        config = ScorerConfig(
            segmenters=segmenters,
            prior_boxes=_prior_boxes(job, say) if segmenters else {},
            inpainters=named_inpainters(job.base, job.adapter, job.num_steps),
            seed=job.seed,
            gpu=uses_gpu(job.device, job.num_actors),
        )
        segment_rows, inpaint_rows = _score(job, config, chosen, say)
        result = Evaluation(
            out=job.out,
            run_id=tracker.run_id,
            num_examples=len(chosen),
            segment=_segment_summary(segment_rows, job.seed),
            inpaint=_inpaint_summary(inpaint_rows, job.seed),
        )
        write_scores(result, segment_rows, inpaint_rows, partial, split=job.split, settings=params)
        say(f"drawing {PAGE_FILE}")
        report = evaluation_report(
            str(job.data).rstrip("/").rpartition("/")[2],
            Scored(split=job.split, rows=segment_rows, summary=result.segment) if segment_rows else None,
            _cases(job, config, segment_rows) if segment_rows else (),
            Scored(split=job.split, rows=inpaint_rows, summary=result.inpaint) if inpaint_rows else None,
            _settings(job, config, info["fingerprint"]),
        )
        write_report(report, partial / PAGE_FILE)
        log_scores(result, tracker, partial)
        if job.tracking.tracking_uri != NO_TRACKING:
            tell_makers(
                {source: result.segmenters[name] for name, source in segmenters.items()}
                | ({job.adapter: result.inpainters[LORA]} if job.adapter else {}),
                resolve_uri(job.tracking.tracking_uri),
                split=job.split,
                data=f"{info['fingerprint'][:12]}, {len(chosen)} examples",
            )
    return result


def _segment_summary(rows: Rows, seed: int) -> Summary:
    return summarise(
        rows, model="segmenter", scores=SEGMENT_SCORES, by=GROUPS, paired=SEGMENT_PAIRED, seed=seed
    )


def _inpaint_summary(rows: Rows, seed: int) -> Summary:
    by = {name: GROUPS[name] for name in ("class_group", "size_group")}
    return summarise(rows, model="inpainter", scores=INPAINT_SCORES, by=by, paired=INPAINT_PAIRED, seed=seed)


def _check(job: EvaluateJob) -> dict[str, Any]:
    """Complains about the job before anything slow starts; gives what dataset.json says."""
    info = read_dataset_info(job.data)
    prepared_files(job.data, split=job.split)
    check_out(job.out, overwrite=job.overwrite)
    if job.limit < 0:
        raise ConfigError("--limit takes a positive number, or 0 for no limit")
    if job.num_actors < 1:
        raise ConfigError("--num-actors must be at least 1")
    if not job.segmenter and not job.base:
        raise ConfigError("nothing to evaluate; name a --segmenter or a --base")
    for name in job.segmenter:
        check_models(name, CLASSICAL)  # fails here in one line, not in an actor
    named_segmenters(job.segmenter)
    if job.segmenter:
        prepared_files(job.data, split="train")  # of the location prior
    if job.adapter and not Path(job.adapter).is_dir():
        raise ConfigError(f"--adapter {job.adapter}: there is no such folder")
    if job.base:
        try:
            check_truth(job.data)
        except DatasetError as error:
            raise DatasetError(f"{error}: give --base '' to evaluate segmenters alone") from None
        check_models("", job.base, adapter=job.adapter)
    return info


def _chosen_ids(job: EvaluateJob) -> frozenset[str]:
    """Ids of the examples to score: with a limit, those whose hashes come first. Neighbours are no sample."""
    ids = [row["example_id"] for row in prepared_rows(job.data, split=job.split, columns=["example_id"])]
    ids.sort(key=lambda example_id: hashlib.sha256(example_id.encode()).digest())
    return frozenset(ids[: job.limit or None])


def _prior_boxes(job: EvaluateJob, say: Say) -> dict[str, tuple[float, float, float, float]]:
    rows = prepared_rows(job.data, split="train", columns=["prompt", "mask"])
    prior = LocationPriorSegmenter.fit((row["prompt"], decode_mask(row["mask"])) for row in rows)
    say(f"location prior: mean boxes of {len(prior.boxes) - 1} place phrases of the training split")
    return prior.boxes


def _score(job: EvaluateJob, config: ScorerConfig, chosen: frozenset[str], say: Say) -> tuple[Rows, Rows]:
    """Runs the scorers; gives rows of segmenters and of inpainters, in the order of their example ids."""
    segment_rows: Rows = []
    inpaint_rows: Rows = []
    said = time.monotonic()
    scored = _mapped(job, config, chosen, Scorer, num_actors=job.num_actors)
    for number, row in enumerate(scored.iter_rows(), start=1):
        if row["failure"]:
            raise ConfigError(row["failure"])
        segment_rows += json.loads(row["segment"])
        inpaint_rows += json.loads(row["inpaint"])
        if time.monotonic() - said > _SAY_EVERY_SECONDS or number == len(chosen):
            said = time.monotonic()
            say(f"scored {number:,} of {len(chosen):,} examples")
    for rows in (segment_rows, inpaint_rows):
        rows.sort(key=lambda row: row["example_id"])
    return segment_rows, inpaint_rows


def _cases(job: EvaluateJob, config: ScorerConfig, rows: Rows) -> list[Case]:
    """Finds the masks of the best, median and worst examples of the first segmenter again, to be shown."""
    first = [row for row in rows if row["segmenter"] == rows[0]["segmenter"]]
    chosen = extremes(first, score=BOX_DICE.name, count=_CASES_OF_A_KIND)
    ids = frozenset(row["example_id"] for group in chosen.values() for row in group)
    found = {
        row["example_id"]: row for row in _mapped(job, config, ids, MaskFinder, num_actors=1).iter_rows()
    }
    return [
        Case(
            kind=kind,
            prompt=row["prompt"],
            example_id=row["example_id"],
            image=decode_image(found[row["example_id"]]["image"]),
            truth=decode_mask(found[row["example_id"]]["mask"]),
            found={
                name: decode_mask(png)
                for name, png in zip(
                    found[row["example_id"]]["names"], found[row["example_id"]]["found"], strict=True
                )
            },
        )
        for kind, group in chosen.items()
        for row in group
    ]


def _mapped(
    job: EvaluateJob,
    config: ScorerConfig,
    ids: frozenset[str],
    mapper: type[Scorer] | type[MaskFinder],
    *,
    num_actors: int,
) -> ray.data.Dataset:
    """Some examples of the split through actors that have the models."""
    examples = read_prepared(job.data, split=job.split, num_blocks=max(4, 2 * num_actors))
    return examples.filter(expr=col("example_id").is_in(sorted(ids))).map(
        mapper,
        fn_constructor_args=(config,),
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=cpus_per_worker(num_actors, ray.cluster_resources().get("CPU", 0.0)),
        num_gpus=1 if config.gpu else 0,
    )


def _settings(job: EvaluateJob, config: ScorerConfig, fingerprint: str) -> list[tuple[str, str]]:
    pairs = [("Data", f"{job.data}, fingerprint {fingerprint}"), ("Split", job.split)]
    if job.limit:
        pairs.append(("Limit", f"{job.limit:,} examples, chosen by a hash of their ids"))
    pairs += [(f"Segmenter {name}", source) for name, source in config.segmenters.items()]
    pairs += [
        (f"Inpainter {name}", spec.name + (f", adapter {spec.adapter}" if spec.adapter else ""))
        for name, spec in config.inpainters.items()
    ]
    return [*pairs, ("Seed", str(job.seed)), ("Source", git_revision() or "no repository")]
