"""Trains a ConditionedUNet over Ray Train workers, fed by Ray Data, and saves the best of its epochs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import ray
from torch import Tensor

from textremove.checkpoint import load_tensors
from textremove.errors import ConfigError
from textremove.onray.feeding import StoredSquares, StreamedSquares
from textremove.onray.progress import Say, voice
from textremove.onray.segmenter_loop import BEST_FOLDER, Progress, SegmenterLoop, train_segmenter_worker
from textremove.onray.trainer import MODEL_ARTIFACT, as_json, fit, last_checkpoint
from textremove.onray.training_job import (
    SCRATCH,
    TINY,
    TrainingJob,
    TrainingRun,
    check_job,
    provenance,
    training_run,
)
from textremove.onray.windows import Order
from textremove.onray.workers import STATE_FILE, restored
from textremove.pipe.prepared import count_prepared, prepared_rows
from textremove.places import PLACES
from textremove.presets import shipped
from textremove.segment.calibration import Calibration
from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.paper import CLIP_VIT_B_32, IMAGENET, build_paper_segmenter
from textremove.segment.tiny import build_tiny_segmenter
from textremove.segment.training import SegmenterTrainConfig

PROMPT_FORMAT = "<what> at the <place>, lower case"
_STORE_SHARE = 0.25  # of Ray's object store that decoded training pictures may take


@dataclass(frozen=True, kw_only=True)
class SegmenterJob(TrainingJob):
    """What to train, on what, and where to.

    Attributes:
        init: "scratch" for a new model of `architecture`; "tiny" to continue from the weights that come with
            the package, or the folder of a model to continue from.
        architecture: Of a new model: "tiny", or "paper" (ResNet-18 and CLIP's text encoder).
        text_encoder: CLIP model of a new paper architecture: hub id or local folder.
        backbone: ResNet-18 weights of a new paper architecture: "imagenet", "random" or a file.
        image_size: Side of the model's pictures in pixels; 0 for what the architecture has.
        training: Loss, rates, epochs, stopping.
    """

    init: str = SCRATCH
    architecture: Literal["tiny", "paper"] = "tiny"
    text_encoder: str = CLIP_VIT_B_32
    backbone: str = IMAGENET
    image_size: int = 0
    training: SegmenterTrainConfig = field(default_factory=SegmenterTrainConfig)


@dataclass(frozen=True, kw_only=True)
class SegmenterResult:
    """What came of it.

    Attributes:
        out: The model's folder.
        run_id: The MLflow run; "" when nothing was tracked.
        started_from: What the weights began as, in words.
        metrics: Of the best epoch: "val_loss", "val_box_dice", ...
        threshold: Probability above which a pixel is in the mask, chosen on validation.
        strategy: "raw" or "box", chosen on validation.
        thresholds: The best threshold of each strategy.
        epochs: Epochs trained.
        best_epoch: The one that was kept.
        history: Metrics of every epoch.
    """

    out: Path
    run_id: str
    started_from: str
    metrics: dict[str, float]
    threshold: float
    strategy: str
    thresholds: dict[str, float]
    epochs: int
    best_epoch: int
    history: tuple[dict[str, float], ...]


def train_segmenter(job: SegmenterJob, *, say: Say = print) -> SegmenterResult:
    """Trains a segmenter. After a crash or a Ctrl-C, the same job goes on where it stopped.

    Args:
        job: What, on what, where to.
        say: Takes lines for a person.

    Raises:
        UserError: Something of the job cannot be used as it is; nothing is written.
    """
    info = _check(job)
    model, started_from = initial_model(job)
    size = (
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {model.config.image_size} px"
    )
    say(f"starting from {started_from}: {size}")
    with training_run(job, "train_segmenter", started_from=started_from, info=info) as run:
        started = time.monotonic()
        best, progress = _fit(job, model, run, say)
        model.load_state_dict(best)
        result = _result(job, progress, run_id=run.tracker.run_id, started_from=started_from)
        metadata = _metadata(job, result) | provenance(job, run, info)
        metadata["training_seconds"] = round(time.monotonic() - started, 1)
        model.save_pretrained(job.out, metadata=metadata, overwrite=job.overwrite)
        run.tracker.log_metrics(
            {f"best_{name}": value for name, value in result.metrics.items()}
            | {"best_epoch": result.best_epoch}
        )
        run.tracker.set_tags({"model_kind": "segmenter", "started_from": started_from})
        run.tracker.log_artifacts(job.out, name=MODEL_ARTIFACT)
    return result


def initial_model(job: SegmenterJob) -> tuple[ConditionedUNet, str]:
    """Builds or loads what training begins with, and says in words what that is."""
    seed = job.training.seed
    if job.init == TINY:
        model, started_from = (
            ConditionedUNet.from_pretrained(shipped("segmenter")),
            "the shipped tiny weights",
        )
    elif job.init != SCRATCH:
        model, started_from = ConditionedUNet.from_pretrained(job.init), f"the weights in {job.init}"
    elif job.architecture == "paper":
        model = build_paper_segmenter(text_encoder=job.text_encoder, backbone=job.backbone, seed=seed)
        started_from = f"backbone {job.backbone} and text encoder {job.text_encoder}, the rest random"
    else:
        prompts = prepared_rows(job.data, split="train", columns=["prompt"])
        words = {word for row in prompts for word in row["prompt"].split() if word.isascii()}
        model = build_tiny_segmenter({"at", "the", *" ".join(PLACES).split(), *words}, seed=seed)
        started_from = "nothing (random weights)"
    if job.image_size:
        model.config = replace(model.config, image_size=job.image_size)
    return model, started_from


def training_squares(job: SegmenterJob, side: int) -> StoredSquares | StreamedSquares:
    """The training split as decoded squares; kept in Ray's object store where it is small enough."""
    order = Order(
        num_rows=count_prepared(job.data, split="train"),
        batch_size=job.training.batch_size,
        seed=job.training.seed,
    )
    room = ray.cluster_resources().get("object_store_memory", 0) * _STORE_SHARE
    if order.num_rows * side * side * 4 < room:
        return StoredSquares.of(job.data, side=side, order=order)
    return StreamedSquares(data=job.data, side=side, order=order)


def _check(job: SegmenterJob) -> dict[str, Any]:
    """Complains about the job before anything slow starts; gives what dataset.json says."""
    training = job.training
    info = check_job(job, epochs=training.epochs, batch_size=training.batch_size)
    if training.batch_size % max(job.num_workers, 1):
        raise ConfigError(
            f"--batch-size {training.batch_size} does not divide over {job.num_workers} workers; "
            "give a multiple"
        )
    if job.image_size % 32:
        raise ConfigError(f"--image-size {job.image_size} is not a multiple of 32")
    return info


def _fit(
    job: SegmenterJob, model: ConditionedUNet, run: TrainingRun, say: Say
) -> tuple[dict[str, Tensor], Progress]:
    """Trains; gives the best epoch's tensors and where training stands."""
    with voice(say, num_workers=job.num_workers) as worker_say:
        orders = run.orders(job, worker_say)
        result = fit(
            train_segmenter_worker,
            {
                "loop": SegmenterLoop(
                    orders=orders,
                    model=ray.put(model),
                    squares=training_squares(job, model.config.image_size),
                    training=job.training,
                )
            },
            unfinished=run.unfinished,
            num_workers=job.num_workers,
            gpu=orders.gpu,
        )
    with last_checkpoint(result, num_workers=job.num_workers) as folder:
        state = json.loads((folder / STATE_FILE).read_text())
        return load_tensors(folder / BEST_FOLDER), restored(Progress, state)


def _result(job: SegmenterJob, progress: Progress, *, run_id: str, started_from: str) -> SegmenterResult:
    best = progress.history[progress.best_epoch - 1]
    calibration = Calibration(**(progress.calibration or {}))
    return SegmenterResult(
        out=job.out,
        run_id=run_id,
        started_from=started_from,
        metrics={name: value for name, value in best.items() if name.startswith(("val_", "train_loss"))},
        threshold=calibration.threshold,
        strategy=calibration.strategy,
        thresholds=calibration.thresholds,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        history=progress.history,
    )


def _metadata(job: SegmenterJob, result: SegmenterResult) -> dict[str, Any]:
    """What the saved folder says of how it was made."""
    return {
        "prompt_format": PROMPT_FORMAT,
        "threshold": result.threshold,
        "strategy": result.strategy,
        "thresholds": result.thresholds,
        "metrics": result.metrics,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "started_from": result.started_from,
        "training": as_json(job.training),
    }
