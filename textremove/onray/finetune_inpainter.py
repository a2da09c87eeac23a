"""Fine-tunes a LoRA adapter on a frozen inpainting base over Ray Train workers, fed by Ray Data."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from textremove.atomic import atomic_dir
from textremove.checkpoint import write_manifest
from textremove.errors import ConfigError
from textremove.inpaint.lora import KIND, LoraSpec
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.onray.cluster import connect
from textremove.onray.datasets import read_prepared
from textremove.onray.inpainter_loop import (
    ADAPTER_FOLDER,
    PICTURE_COLUMNS,
    InpainterLoop,
    TuningProgress,
    finetune_inpainter_worker,
    tuning_progress_from_state,
)
from textremove.onray.progress import Say, voice
from textremove.onray.tracking import TrackingConfig, resolve_uri, tracked_run
from textremove.onray.trainer import (
    MODEL_ARTIFACT,
    Device,
    Unfinished,
    as_json,
    check_out,
    check_workers,
    fit,
    git_revision,
    last_checkpoint,
    uses_gpu,
)
from textremove.onray.workers import STATE_FILE
from textremove.pipe.prepared import check_truth, count_prepared, prepared_files, read_dataset_info
from textremove.presets import INPAINTERS, resolve_base, shipped
from textremove.storage import absolute

SCRATCH, TINY = "scratch", "tiny"
_NOT_OF_THE_RUN = ("tracking", "address", "overwrite", "num_workers", "device")  # may differ on going on


@dataclass(frozen=True, kw_only=True)
class InpainterJob:
    """What to fine-tune, on what, and where to.

    Attributes:
        data: Folder of prepared examples, a path or an s3:// address.
        out: Folder for the adapter; appears whole or not at all.
        base: "tiny-base" (comes with the package), "paper" (SD2 inpainting), or the hub id or local folder
            of a 9-channel Stable Diffusion inpainting base.
        init: "scratch" for a new adapter; "tiny" to train the one that comes with the package further, or
            the folder of one to train further.
        limit: Training examples at most; 0 for all.
        num_validation: Validation examples at most; 0 for all.
        num_workers: Training processes; 0 trains in this one.
        device: Where they compute: "auto" takes GPUs where there is one for each.
        precision: "auto" is bfloat16 on GPUs and float32 on CPUs.
        overwrite: Whether to replace what is in `out`.
        lora: The adapter's shape.
        training: Rates, epochs, batches.
        tracking: Where the run is remembered.
        address: A running Ray cluster; by default RAY_ADDRESS, else a local Ray is started.
    """

    data: str
    out: Path
    base: str = "tiny-base"
    init: str = SCRATCH
    limit: int = 0
    num_validation: int = 256
    num_workers: int = 2
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    overwrite: bool = False
    lora: LoraSpec = field(default_factory=LoraSpec)
    training: InpaintTrainConfig = field(default_factory=InpaintTrainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    address: str | None = None


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
    info = _check(job)
    started_from = _started_from(job)
    say(f"starting from {started_from}")
    params = as_json(job) | {"started_from": started_from, "data_fingerprint": info["fingerprint"]}
    same = {name: value for name, value in params.items() if name not in _NOT_OF_THE_RUN}
    unfinished = Unfinished(job.out, "inpainter", same)
    with (
        unfinished.kept_if_begun(),
        connect(job.address),
        tracked_run(
            job.tracking,
            name=job.out.name,
            kind="finetune_inpainter",
            params=params,
            run_id=unfinished.run_id(),
        ) as tracker,
    ):
        unfinished.begin(tracker.run_id)
        started = time.monotonic()
        adapter, progress = _fit(job, unfinished, tracker.run_id, say)
        result = _result(job, progress, run_id=tracker.run_id)
        metadata = _metadata(job, result, info) | {"training_seconds": round(time.monotonic() - started, 1)}
        with atomic_dir(job.out, overwrite=job.overwrite) as folder:
            shutil.copytree(adapter, folder, dirs_exist_ok=True)
            write_manifest(folder, kind=KIND, config=asdict(job.lora), metadata=metadata)
        tracker.log_metrics({f"last_{name}": value for name, value in result.metrics.items()})
        tracker.set_tags({"model_kind": "inpainter", "base": result.base})
        tracker.log_artifacts(job.out, name=MODEL_ARTIFACT)
    unfinished.forget()
    return result


def _check(job: InpainterJob) -> dict[str, Any]:
    """Complains about the job before anything slow starts; gives what dataset.json says."""
    info = read_dataset_info(job.data)
    for split in ("train", "val"):
        prepared_files(job.data, split=split)
    check_truth(job.data)
    check_out(job.out, overwrite=job.overwrite)
    check_workers(job.num_workers)
    training = job.training
    if training.epochs < 1 or training.batch_size < 1:
        raise ConfigError("--epochs and --batch-size must be at least 1")
    if job.limit < 0 or job.num_validation < 0:
        raise ConfigError("--limit and --num-validation take a positive number, or 0 for no limit")
    if job.lora.rank < 1:
        raise ConfigError("--rank must be at least 1")
    available = min(count_prepared(job.data, split="train"), job.limit or 2**62)
    if available < max(job.num_workers, 1):
        raise ConfigError(
            f"{job.num_workers} workers need at least one training example each, not {available}"
        )
    init = _init_folder(job)
    if init is not None and not init.is_dir():
        raise ConfigError(f"--init {job.init}: no such folder; give scratch, tiny or an adapter's folder")
    base = resolve_base(job.base)
    if not Path(base).is_dir() and base.count("/") != 1:
        names = ", ".join(name for name in INPAINTERS if resolve_base(name) != name)
        raise ConfigError(f"unknown base {job.base!r}; choose {names}, a local folder or a hub id")
    return info


def _init_folder(job: InpainterJob) -> Path | None:
    """The folder of the adapter to train further; None for a new one."""
    if job.init == SCRATCH:
        return None
    return shipped("adapter") if job.init == TINY else Path(job.init).resolve()


def _started_from(job: InpainterJob) -> str:
    if job.init == SCRATCH:
        return "nothing (an adapter that changes nothing)"
    return "the shipped tiny adapter" if job.init == TINY else f"the adapter in {job.init}"


def _fit(job: InpainterJob, unfinished: Unfinished, run_id: str, say: Say) -> tuple[Path, TuningProgress]:
    """Trains; gives the adapter's folder, inside the unfinished run's, and where training stands."""
    gpu = uses_gpu(job.device, job.num_workers)
    base = resolve_base(job.base)
    dataset = read_prepared(job.data, split="train").select_columns(list(PICTURE_COLUMNS))
    with voice(say, num_workers=job.num_workers) as worker_say:
        loop = InpainterLoop(
            base=str(Path(base).resolve()) if Path(base).is_dir() else base,
            lora=job.lora,
            init=str(_init_folder(job) or ""),
            data=absolute(job.data),
            scratch=unfinished.storage,
            training=job.training,
            num_validation=job.num_validation,
            bfloat16=job.precision == "bfloat16" or (job.precision == "auto" and gpu),
            gpu=gpu,
            tracking_uri=resolve_uri(job.tracking.tracking_uri),
            run_id=run_id,
            say=worker_say,
        )
        result = fit(
            finetune_inpainter_worker,
            {"loop": loop},
            unfinished=unfinished,
            num_workers=job.num_workers,
            gpu=gpu,
            dataset=dataset.limit(job.limit) if job.limit else dataset,
        )
    adapter = unfinished.storage / ADAPTER_FOLDER
    with last_checkpoint(result, num_workers=job.num_workers) as folder:
        shutil.copytree(folder / ADAPTER_FOLDER, adapter, dirs_exist_ok=True)
        return adapter, tuning_progress_from_state(json.loads((folder / STATE_FILE).read_text()))


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


def _metadata(job: InpainterJob, result: InpainterResult, info: dict[str, Any]) -> dict[str, Any]:
    """What the saved folder says of how it was made."""
    return {
        "base": job.base,
        "base_digest": result.base_digest,
        "started_from": result.started_from,
        "metrics": result.metrics,
        "training": as_json(job.training),
        "num_workers": job.num_workers,
        "data": {"fingerprint": info["fingerprint"], "splits": info["splits"]},
        "git_revision": git_revision(),
        "run_id": result.run_id,
    }
