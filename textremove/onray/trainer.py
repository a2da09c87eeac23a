"""What both trainings share on the driver: resources that cannot starve the reader, resuming, provenance."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import ray.data
from ray.exceptions import RayError
from ray.train import CheckpointConfig, DataConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from textremove.errors import ConfigError

Device = Literal["auto", "cpu", "gpu"]

MODEL_ARTIFACT = "model"
"""The folder of an MLflow run that holds its model."""

_MAX_FAILURES = 2  # worker groups lost before the run gives up
_ABORT_SECONDS = 10.0
_LEFT_FOR_READERS = 1.0  # CPU slots that training never takes
_CONTROLLER_POLL_SECONDS = "0.2"  # two by default, within which a reported checkpoint can still be lost


def uses_gpu(device: Device, num_workers: int) -> bool:
    """Decides whether workers get a GPU each.

    Raises:
        ConfigError: GPUs were asked for, and the cluster has too few.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "gpu" and gpus < max(num_workers, 1):
        raise ConfigError(
            f"--device gpu: {num_workers} workers need as many GPUs, and this cluster has {gpus}; "
            "lower --num-workers or take --device cpu"
        )
    return device != "cpu" and num_workers > 0 and gpus >= num_workers


def cpus_per_worker(num_workers: int, total_cpus: float) -> float:
    """CPU slots for each training worker, so that reading data always has some left.

    Workers that take every slot wait for ever for data that nobody is left to read.
    """
    if total_cpus <= _LEFT_FOR_READERS:  # a cluster that has yet to scale up
        return 1.0
    share = (total_cpus - _LEFT_FOR_READERS) / max(num_workers, 1)
    return 1.0 if share >= 1 else max(int(share * 100) / 100, 0.01)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Complains about an output folder before the work is done, not after."""
    if out.is_file():
        raise ConfigError(f"{out} is a file; give the name of a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ConfigError(f"{out} is there already and not empty; give another name or --overwrite")


class Unfinished:
    """What is left beside `out` while its training is not done: checkpoints, and the MLflow run to join.

    The same job, started again, finds it and goes on; a job with other settings does not.

    Args:
        out: The model's final folder.
        kind: What is trained.
        settings: What makes it the same job.
    """

    def __init__(self, out: Path, kind: str, settings: Mapping[str, Any]) -> None:
        self.storage = out.resolve().with_name(f"{out.name}.training")
        text = json.dumps(settings, sort_keys=True, default=str)
        self.name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self._run_id_file = self.storage / f"{self.name}.run-id"

    def run_id(self) -> str:
        """The MLflow run of the earlier attempt; "" when there was none."""
        return self._run_id_file.read_text() if self._run_id_file.is_file() else ""

    def begin(self, run_id: str) -> None:
        self.storage.mkdir(parents=True, exist_ok=True)
        self._run_id_file.write_text(run_id)

    @contextmanager
    def kept_if_begun(self) -> Iterator[None]:
        """Forgets it when the with-block fails before there is a checkpoint to go on from."""
        try:
            yield
        except BaseException:
            if not any(self.storage.glob("*/epoch-*")):
                shutil.rmtree(self.storage, ignore_errors=True)
            raise

    def forget(self) -> None:
        """Takes it away; the model is safe under its final name."""
        shutil.rmtree(self.storage)


class _Trainer(TorchTrainer):
    """TorchTrainer that leaves Ctrl-C alone: Ray's own handler ends the program with status 0, and stays."""

    _controller: Any = None

    def _register_sigint_handler(self, controller: Any) -> None:
        self._controller = controller

    def abort(self) -> None:
        """Ends the workers; the last checkpoint stays."""
        if self._controller is not None:
            with suppress(RayError):
                ray.get(self._controller.abort.remote(), timeout=_ABORT_SECONDS)


def _run(config: dict[str, Any]) -> None:
    """Runs on every worker: gets the loop that it is to run, and runs it."""
    loop, loop_config = ray.get(config["work"])
    loop(loop_config)


def fit(
    loop: Callable[[dict[str, Any]], None],
    loop_config: dict[str, Any],
    *,
    unfinished: Unfinished,
    num_workers: int,
    gpu: bool,
    dataset: ray.data.Dataset | None = None,
) -> Result:
    """Runs a training loop on workers through Ray Train; an unfinished run goes on where it stopped.

    Args:
        loop: Runs on every worker.
        loop_config: Handed to it.
        unfinished: Where checkpoints go; on a cluster, a folder that every node sees.
        num_workers: 0 runs the loop in this process.
        gpu: Whether every worker gets a GPU.
        dataset: Split evenly over the workers as "train"; None for loops that see to their own data.

    Returns:
        Ray Train's result; its checkpoint is the last one.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _CONTROLLER_POLL_SECONDS)
    total_cpus = ray.cluster_resources().get("CPU", 0.0)
    threads = max(1, int(len(os.sched_getaffinity(0)) / max(num_workers, 1)))
    resources = {"CPU": cpus_per_worker(num_workers, total_cpus)} | ({"GPU": 1.0} if gpu else {})
    options = ray.data.ExecutionOptions(preserve_order=True)  # the same seed gives the same batches
    # Ray Train's controller unpickles what it is given, which would take it ten seconds of imports; of a
    # reference it knows nothing.
    work = {"work": ray.put((loop, loop_config))} if num_workers else {}
    trainer = _Trainer(
        _run if num_workers else loop,
        train_loop_config=work or loop_config,
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=gpu,
            resources_per_worker=resources,
        ),
        datasets=None if dataset is None else {"train": dataset},
        dataset_config=DataConfig(datasets_to_split=["train"], execution_options=options),
        run_config=RunConfig(
            name=unfinished.name,
            storage_path=str(unfinished.storage),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=2),  # the last two: each holds the best as well
            # Ray sets as many threads as CPU slots, which here are fewer or more than cores.
            worker_runtime_env={
                "env_vars": {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
            },
        ),
    )
    try:
        return trainer.fit()
    except KeyboardInterrupt:
        trainer.abort()
        raise


def as_json(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON values."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected a config dataclass, got {config!r}")
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return plain


@contextmanager
def last_checkpoint(result: Result, *, num_workers: int) -> Iterator[Path]:
    """The folder of the last checkpoint, on this machine for the length of a with-block."""
    with result.checkpoint.as_directory() as path:
        yield Path(path)
    if num_workers == 0:  # in process, Ray Train neither uploads nor takes away
        shutil.rmtree(result.checkpoint.path)


def git_revision() -> str:
    """The commit of the source this runs from, "+changes" when files differ; "" outside a repository."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        revision = git("rev-parse", "--short=12", "HEAD")
        changed = bool(revision) and git("status", "--porcelain", "--untracked-files=no") != ""
    except OSError:  # no git here
        return ""
    return revision + ("+changes" if changed else "")
