"""Evaluates segmenters and inpainters on a prepared split through Ray Data: scores, statistics, a page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textremove.atomic import atomic_dir
from textremove.errors import ConfigError, DatasetError
from textremove.groups import FILLING_GROUPS, GROUPS
from textremove.images import decode_mask
from textremove.inpaint.frechet import LOCAL_FID
from textremove.inpaint.perceptual import find_weights
from textremove.onray.cluster import connect
from textremove.onray.evaluated_models import named_segmenters
from textremove.onray.evaluation import Evaluation, Rows, log_scores, tell_makers, write_scores
from textremove.onray.progress import Say
from textremove.onray.scorer import ScorerConfig
from textremove.onray.scoring import Scoring, score_examples, show_examples
from textremove.onray.tracking import NO_TRACKING, TrackingConfig, resolve_uri, tracked_run
from textremove.onray.trainer import Device, as_json, check_out, git_revision, uses_gpu
from textremove.onray.variants import BASE, CLASSICAL, LORA, Filling, named_fillings
from textremove.pipe.prepared import check_truth, prepared_files, prepared_rows, read_dataset_info
from textremove.presets import check_models
from textremove.report.evaluation import evaluation_report
from textremove.report.filling import INPAINT_PAIRED, INPAINT_SCORES, ScoredFillings
from textremove.report.page import Report, write_report
from textremove.report.scores import Scored
from textremove.report.segmenting import SEGMENT_PAIRED, SEGMENT_SCORES
from textremove.scores import Summary, summarise
from textremove.segment.location_prior import LocationPriorSegmenter

PAGE_FILE = "evaluation.html"


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """What to evaluate, on what.

    Attributes:
        data: Folder of prepared examples, a path or an s3:// address.
        out: Folder for the scores; appears whole or not at all.
        segmenter: tiny, clipseg, sam3, grounded-sam2, zero-shot, folders, hub ids or DETECTOR+SAM2; the
            location prior, fitted on the training split, is always scored beside them. Empty for none.
        base: The base inpainter ("tiny-base", "paper", a folder or hub id). "" for no inpainters.
        adapter: Folder of its adapter; for tiny-base, the one that comes with the package unless said.
        num_steps: Denoising steps; by default the preset's own.
        variants: Ways of filling holes, of: lora, base, telea, navier-stokes, base-redirect, base-contrast,
            redirect, undilated, box, samples, verify, exemplars, telea-exemplars, occluders, ours. By default
            lora, base, telea and ours, as far as there are an adapter and a segmenter for them. The first
            segmenter says whether a removal succeeded.
        torch_cache: Folder laid out as torch's cache, where the networks of LPIPS and of local FID are
            looked for; by default that cache. Nothing is downloaded.
        vit: Folder, or id in the hub's cache, of the ViT that ReMOVE looks through; by default
            facebook/dinov2-small where it is there.
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
    variants: tuple[str, ...] = ()
    torch_cache: str | None = None
    vit: str | None = None
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
    params = as_json(job) | {"data_fingerprint": info["fingerprint"]}
    with (
        atomic_dir(job.out, overwrite=job.overwrite) as partial,
        connect(job.address),
        tracked_run(job.tracking, name=job.out.name, kind="evaluate", params=params) as tracker,
    ):
        scoring = Scoring(
            data=job.data, split=job.split, config=_scorer_config(job, say), num_actors=job.num_actors
        )
        scores = score_examples(scoring, chosen, say)
        segment_rows, inpaint_rows = scores.segment, scores.inpaint
        result = Evaluation(
            out=job.out,
            run_id=tracker.run_id,
            num_examples=len(chosen),
            segment=_segment_summary(segment_rows, job.seed),
            inpaint=_inpaint_summary(inpaint_rows, job.seed).with_scores(LOCAL_FID, scores.local_fid),
        )
        write_scores(result, segment_rows, inpaint_rows, partial, split=job.split, settings=params)
        say(f"drawing {PAGE_FILE}")
        settings = _settings(job, scoring.config, info["fingerprint"])
        write_report(_report(scoring, result, segment_rows, inpaint_rows, settings), partial / PAGE_FILE)
        log_scores(result, tracker, partial)
        if job.tracking.tracking_uri != NO_TRACKING:
            tell_makers(
                {source: result.segmenters[name] for name, source in scoring.config.segmenters.items()}
                | (
                    {job.adapter: result.inpainters[LORA]}
                    if job.adapter and LORA in result.inpainters
                    else {}
                ),
                resolve_uri(job.tracking.tracking_uri),
                split=job.split,
                data=f"{info['fingerprint'][:12]}, {len(chosen)} examples",
            )
    return result


def _scorer_config(job: EvaluateJob, say: Say) -> ScorerConfig:
    segmenters = named_segmenters(job.segmenter)
    return ScorerConfig(
        segmenters=segmenters,
        prior_boxes=_prior_boxes(job, say) if segmenters else {},
        fillings=_fillings(job),
        weights=find_weights(job.torch_cache, job.vit),
        seed=job.seed,
        gpu=uses_gpu(job.device, job.num_actors),
    )


def _fillings(job: EvaluateJob) -> dict[str, Filling]:
    return named_fillings(
        job.variants, job.base, job.adapter, job.num_steps, with_segmenter=bool(job.segmenter)
    )


def _report(
    scoring: Scoring,
    result: Evaluation,
    segment_rows: Rows,
    inpaint_rows: Rows,
    settings: Sequence[tuple[str, str]],
) -> Report:
    """The page, for which pictures of a few examples are made again."""
    split, config = scoring.split, scoring.config
    masks, fillings = show_examples(scoring, segment_rows, inpaint_rows)
    return evaluation_report(
        scoring.data.rstrip("/").rpartition("/")[2],
        Scored(split=split, rows=segment_rows, summary=result.segment) if segment_rows else None,
        masks,
        ScoredFillings(
            scored=Scored(split=split, rows=inpaint_rows, summary=result.inpaint),
            cases=fillings,
            about={name: filling.variant.about for name, filling in config.fillings.items()},
            absent=config.weights.absent,
            segmenter=next(iter(config.segmenters), ""),
        )
        if inpaint_rows
        else None,
        settings,
    )


def _segment_summary(rows: Rows, seed: int) -> Summary:
    return summarise(
        rows, model="segmenter", scores=SEGMENT_SCORES, by=GROUPS, paired=SEGMENT_PAIRED, seed=seed
    )


def _inpaint_summary(rows: Rows, seed: int) -> Summary:
    return summarise(
        rows,
        model="inpainter",
        scores=INPAINT_SCORES,
        by=FILLING_GROUPS,
        paired=INPAINT_PAIRED,
        against=BASE,
        seed=seed,
    )


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
        check_models("", job.base, adapter=job.adapter, num_steps=job.num_steps)
    _fillings(job)
    find_weights(job.torch_cache, job.vit)
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


def _settings(job: EvaluateJob, config: ScorerConfig, fingerprint: str) -> list[tuple[str, str]]:
    pairs = [("Data", f"{job.data}, fingerprint {fingerprint}"), ("Split", job.split)]
    if job.limit:
        pairs.append(("Limit", f"{job.limit:,} examples, chosen by a hash of their ids"))
    pairs += [(f"Segmenter {name}", source) for name, source in config.segmenters.items()]
    pairs += [(f"Variant {name}", _loaded(filling)) for name, filling in config.fillings.items()]
    return [*pairs, ("Seed", str(job.seed)), ("Source", git_revision() or "no repository")]


def _loaded(filling: Filling) -> str:
    spec = filling.inpainter
    said = [spec.name]
    if spec.adapter and not filling.without_adapter:
        said.append(f"adapter {spec.adapter}")
    if spec.num_steps:
        said.append(f"steps {spec.num_steps}")
    return ", ".join(said)
