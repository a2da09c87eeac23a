"""What both trainings have in common on the driver: settings, checks, the run that is tracked, provenance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from textremove.errors import ConfigError
from textremove.onray.cluster import connect
from textremove.onray.progress import Say
from textremove.onray.tracking import TrackingConfig, resolve_uri, tracked_run
from textremove.onray.trainer import Device, Unfinished, as_json, check_out, git_revision, uses_gpu
from textremove.pipe.prepared import prepared_files, read_dataset_info
from textremove.storage import absolute
from textremove.tracking import Tracker

SCRATCH, TINY = "scratch", "tiny"

_NOT_OF_THE_RUN = ("tracking", "address", "overwrite", "num_workers", "device")  # may differ on going on


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Settings of every training.

    Attributes:
        data: Folder of prepared examples, a path or an s3:// address.
        out: Folder for what is trained; appears whole or not at all.
        num_workers: Training processes; 0 trains in this one.
        device: Where they compute: "auto" takes GPUs where there is one for each.
        precision: "auto" is bfloat16 on GPUs and float32 on CPUs.
        overwrite: Whether to replace what is in `out`.
        tracking: Where the run is remembered.
        address: A running Ray cluster; by default RAY_ADDRESS, else a local Ray is started.
    """

    data: str
    out: Path
    num_workers: int = 2
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    overwrite: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerOrders:
    """What every training worker is told.

    Attributes:
        data: The prepared folder; validation rows are read from it directly.
        scratch: Folder to write checkpoints in before they are reported.
        bfloat16: Whether to compute in bfloat16 where that is safe.
        gpu: Whether this worker has a GPU.
        tracking_uri: The MLflow store, when there is a run.
        run_id: The MLflow run to tell; "" for none.
        say: Takes lines for a person.
    """

    data: str
    scratch: Path
    bfloat16: bool
    gpu: bool
    tracking_uri: str
    run_id: str
    say: Say


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training that has begun.

    Attributes:
        unfinished: What is kept beside `out` until it is done.
        tracker: Its MLflow run.
    """

    unfinished: Unfinished
    tracker: Tracker

    def orders(self, job: TrainingJob, say: Say) -> WorkerOrders:
        """What to tell its workers; a GPU is looked for on the cluster that is connected."""
        gpu = uses_gpu(job.device, job.num_workers)
        return WorkerOrders(
            data=absolute(job.data),
            scratch=self.unfinished.storage,
            bfloat16=job.precision == "bfloat16" or (job.precision == "auto" and gpu),
            gpu=gpu,
            tracking_uri=resolve_uri(job.tracking.tracking_uri),
            run_id=self.tracker.run_id,
            say=say,
        )


def check_job(job: TrainingJob, *, epochs: int, batch_size: int) -> dict[str, Any]:
    """Complains about a job before anything slow starts; gives what dataset.json says.

    Raises:
        UserError: Something of it cannot be used as it is.
    """
    info = read_dataset_info(job.data)
    for split in ("train", "val"):
        prepared_files(job.data, split=split)
    check_out(job.out, overwrite=job.overwrite)
    if job.num_workers < 0:
        raise ConfigError("--num-workers must be 0 (train in this process) or more")
    if epochs < 1 or batch_size < 1:
        raise ConfigError("--epochs and --batch-size must be at least 1")
    return info


@contextmanager
def training_run(
    job: TrainingJob, kind: str, *, started_from: str, info: dict[str, Any]
) -> Iterator[TrainingRun]:
    """Connects to Ray and begins a tracked training, or joins the one that was cut short.

    Args:
        job: Its settings; the same ones find the earlier attempt.
        kind: What is trained.
        started_from: What the weights began as, in words.
        info: The data's dataset.json.
    """
    params = as_json(job) | {"started_from": started_from, "data_fingerprint": info["fingerprint"]}
    same = {name: value for name, value in params.items() if name not in _NOT_OF_THE_RUN}
    unfinished = Unfinished(job.out, kind, same)
    with (
        unfinished.kept_if_begun(),
        connect(job.address),
        tracked_run(
            job.tracking, name=job.out.name, kind=kind, params=params, run_id=unfinished.run_id()
        ) as tracker,
    ):
        unfinished.begin(tracker.run_id)
        yield TrainingRun(unfinished=unfinished, tracker=tracker)
    unfinished.forget()


def provenance(job: TrainingJob, run: TrainingRun, info: dict[str, Any]) -> dict[str, Any]:
    """What every saved folder says of where it came from."""
    return {
        "num_workers": job.num_workers,
        "data": {"fingerprint": info["fingerprint"], "splits": info["splits"]},
        "git_revision": git_revision(),
        "run_id": run.tracker.run_id,
    }
