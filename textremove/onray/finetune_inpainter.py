"""Fine-tunes a LoRA adapter on a frozen inpainting base over Ray Train workers, fed by Ray Data."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import ray

from textremove.atomic import atomic_dir
from textremove.checkpoint import write_manifest
from textremove.errors import ConfigError
from textremove.inpaint.holes import HoleConfig
from textremove.inpaint.latents import LatentEncoder, load_encoder
from textremove.inpaint.lora import KIND, LoraSpec
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.onray.inpainter_feeding import CachedLatents, EncodedEachTime
from textremove.onray.inpainter_loop import (
    ADAPTER_FOLDER,
    InpainterLoop,
    TuningProgress,
    finetune_inpainter_worker,
)
from textremove.onray.inpainter_squares import PICTURE_COLUMNS
from textremove.onray.latents import EncodeJob, cached_latents
from textremove.onray.models import absolute as absolute_model
from textremove.onray.progress import Say, voice
from textremove.onray.row_files import RowFiles
from textremove.onray.trainer import MODEL_ARTIFACT, as_json, cpus_per_worker, fit, last_checkpoint
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
from textremove.pipe.prepared import check_truth, count_prepared
from textremove.presets import INPAINTERS, resolve_base, shipped
from textremove.storage import absolute


@dataclass(frozen=True, kw_only=True)
class InpainterJob(TrainingJob):
    """What to fine-tune, on what, and where to.

    Attributes:
        base: "tiny-base" (comes with the package), "paper" (SD2 inpainting), or the hub id or local folder
            of a 9-channel Stable Diffusion inpainting base.
        init: "scratch" for a new adapter; "tiny" to train the one that comes with the package further, or
            the folder of one to train further.
        limit: Training examples at most; 0 for all.
        num_validation: Validation examples at most; 0 for all.
        cache_latents: Whether every example is encoded once and its latents are kept for all epochs and for
            the next run, with one hole; otherwise each step runs the VAE, and holes are drawn anew in every
            epoch. "auto" keeps latents unless there are random masks.
        latents: Folder for kept latents, a path or an s3:// address; by default one beside `data`.
        lora: The adapter's shape.
        training: Rates, epochs, batches.
    """

    base: str = "tiny-base"
    init: str = SCRATCH
    limit: int = 0
    num_validation: int = 256
    cache_latents: Literal["auto", "true", "false"] = "auto"
    latents: str = ""
    lora: LoraSpec = field(default_factory=LoraSpec)
    training: InpaintTrainConfig = field(default_factory=InpaintTrainConfig)


@dataclass(frozen=True, kw_only=True)
class InpainterResult:
    """What came of it.

    Attributes:
        out: The adapter's folder, in the hub's format.
        run_id: The MLflow run; "" when nothing was tracked.
        base: Hub id or folder of the base it belongs to.
        started_from: What the adapter began as, in words.
        metrics: Of the last epoch: "train_loss", "val_loss"; and the base's own "base_val_loss".
        num_trainable: Parameters of the adapter.
        num_frozen: Parameters of the base's UNet, none of which changed.
        base_digest: SHA-256 over those, the same before and after.
        history: Metrics of every epoch.
    """

    out: Path
    run_id: str
    base: str
    started_from: str
    metrics: dict[str, float]
    num_trainable: int
    num_frozen: int
    base_digest: str
    history: tuple[dict[str, float], ...]


def finetune_inpainter(job: InpainterJob, *, say: Say = print) -> InpainterResult:
    """Fine-tunes an adapter. After a crash or a Ctrl-C, the same job goes on where it stopped.

    Args:
        job: What, on what, where to.
        say: Takes lines for a person.

    Raises:
        UserError: Something of the job cannot be used as it is; nothing is written.
    """
    info, encoder = _check(job)
    started_from = _started_from(job)
    say(f"starting from {started_from}")
    with training_run(job, "finetune_inpainter", started_from=started_from, info=info) as run:
        started = time.monotonic()
        adapter, progress = _fit(job, run, encoder, info, say)
        result = _result(job, progress, run_id=run.tracker.run_id)
        metadata = _metadata(job, result) | provenance(job, run, info)
        metadata["training_seconds"] = round(time.monotonic() - started, 1)
        with atomic_dir(job.out, overwrite=job.overwrite) as folder:
            shutil.copytree(adapter, folder, dirs_exist_ok=True)
            write_manifest(folder, kind=KIND, config=asdict(job.lora), metadata=metadata)
        run.tracker.log_metrics({f"last_{name}": value for name, value in result.metrics.items()})
        run.tracker.set_tags({"model_kind": "inpainter", "base": result.base})
        run.tracker.log_artifacts(job.out, name=MODEL_ARTIFACT)
    return result


def _check(job: InpainterJob) -> tuple[dict[str, Any], LatentEncoder]:
    """Complains about the job before anything slow starts; gives what dataset.json says, and the VAE."""
    training = job.training
    info = check_job(job, epochs=training.epochs, batch_size=training.batch_size)
    check_truth(job.data)
    if job.limit < 0 or job.num_validation < 0:
        raise ConfigError("--limit and --num-validation take a positive number, or 0 for no limit")
    if job.lora.rank < 1 or training.accumulation < 1:
        raise ConfigError("--rank and --accumulation must be at least 1")
    available = min(count_prepared(job.data, split="train"), job.limit or 2**62)
    if available < max(job.num_workers, 1):
        raise ConfigError(
            f"{job.num_workers} workers need at least one training example each, not {available}"
        )
    shares = {"box-masks": training.box_masks, "random-masks": training.random_masks}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"--{name} is a share of the examples, from 0 to 1")
    if not 0 <= training.ema_decay < 1 or training.min_snr_gamma < 0:
        raise ConfigError("--ema-decay goes from 0 to below 1, --min-snr-gamma from 0 up; 0 is without")
    init = _init_folder(job)
    if init is not None and not init.is_dir():
        raise ConfigError(f"--init {job.init}: no such folder; give scratch, tiny or an adapter's folder")
    base = resolve_base(job.base)
    if not Path(base).is_dir() and base.count("/") != 1:
        names = ", ".join(name for name in INPAINTERS if resolve_base(name) != name)
        raise ConfigError(f"unknown base {job.base!r}; choose {names}, a local folder or a hub id")
    return info, load_encoder(base)


def _init_folder(job: InpainterJob) -> Path | None:
    """The folder of the adapter to train further; None for a new one."""
    if job.init == SCRATCH:
        return None
    return shipped("adapter") if job.init == TINY else Path(job.init).resolve()


def _started_from(job: InpainterJob) -> str:
    if job.init == SCRATCH:
        return "nothing (an adapter that changes nothing)"
    return "the shipped tiny adapter" if job.init == TINY else f"the adapter in {job.init}"


def _fit(
    job: InpainterJob, run: TrainingRun, encoder: LatentEncoder, info: dict[str, Any], say: Say
) -> tuple[Path, TuningProgress]:
    """Trains; gives the adapter's folder, inside the unfinished run's, and where training stands."""
    with voice(say, num_workers=job.num_workers) as worker_say:
        orders = run.orders(job, worker_say)
        latents = training_latents(job, encoder, fingerprint=info["fingerprint"], gpu=orders.gpu, say=say)
        loop = InpainterLoop(
            orders=orders,
            base=absolute_model(resolve_base(job.base)),
            lora=job.lora,
            init=str(_init_folder(job) or ""),
            training=job.training,
            latents=latents,
            num_validation=job.num_validation,
        )
        result = fit(
            finetune_inpainter_worker,
            {"loop": loop},
            unfinished=run.unfinished,
            num_workers=job.num_workers,
            gpu=orders.gpu,
        )
    adapter = run.unfinished.storage / ADAPTER_FOLDER
    with last_checkpoint(result, num_workers=job.num_workers) as folder:
        shutil.copytree(folder / ADAPTER_FOLDER, adapter, dirs_exist_ok=True)
        return adapter, restored(TuningProgress, json.loads((folder / STATE_FILE).read_text()))


def training_latents(
    job: InpainterJob, encoder: LatentEncoder, *, fingerprint: str, gpu: bool, say: Say
) -> CachedLatents | EncodedEachTime:
    """Where the training batches come from; encodes what is to be kept and is not there yet."""
    training, num_workers = job.training, max(job.num_workers, 1)
    rows = RowFiles.of_training(absolute(job.data), PICTURE_COLUMNS).first(job.limit)
    holes = HoleConfig(box_masks=training.box_masks, random_masks=training.random_masks)
    order = Order(
        num_rows=rows.num_rows,
        batch_size=training.batch_size * training.accumulation * num_workers,
        seed=training.seed,
    )
    if job.cache_latents == "false" or (job.cache_latents == "auto" and training.random_masks):
        say("every step runs the VAE; latents are not kept")
        return EncodedEachTime(rows=rows, order=order, holes=holes, resolution=encoder.resolution)
    encoding = EncodeJob(
        rows=rows,
        fingerprint=fingerprint,
        base=absolute_model(resolve_base(job.base)),
        holes=holes,
        seed=training.seed,
        location=job.latents,
        num_actors=num_workers,
        gpu=gpu,
        cpus=cpus_per_worker(num_workers, ray.cluster_resources().get("CPU", 0.0)),
    )
    return CachedLatents(rows=cached_latents(encoding, encoder, say=say), order=order)


def _result(job: InpainterJob, progress: TuningProgress, *, run_id: str) -> InpainterResult:
    last = progress.history[-1]
    return InpainterResult(
        out=job.out,
        run_id=run_id,
        base=resolve_base(job.base),
        started_from=_started_from(job),
        metrics={
            "train_loss": last["train_loss"],
            "val_loss": last["val_loss"],
            "base_val_loss": progress.base_loss,
        },
        num_trainable=progress.num_trainable,
        num_frozen=progress.num_frozen,
        base_digest=progress.base_digest,
        history=progress.history,
    )


def _metadata(job: InpainterJob, result: InpainterResult) -> dict[str, Any]:
    """What the saved folder says of how it was made."""
    return {
        "base": job.base,
        "base_digest": result.base_digest,
        "started_from": result.started_from,
        "metrics": result.metrics,
        "training": as_json(job.training),
    }
