"""Runs in MLflow: on a SQLite file in the current folder by default, on any MLflow server by its address.

The driver starts a run and hands its id on; rank 0 of the training workers joins it by that id, after a
restart too. No global state of MLflow is set, and importing this module does not import MLflow (seconds).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textremove.errors import ConfigError
from textremove.tracking import NullTracker, Tracker, flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient

NO_TRACKING = "none"
_LONGEST_PARAM = 500
_PARAMS_PER_CALL = 100
_METRICS_PER_CALL = 1000


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where runs are remembered.

    Attributes:
        tracking_uri: MLflow's address. By default MLFLOW_TRACKING_URI, else mlflow.db in the current
            folder; "none" remembers nothing.
        experiment: The MLflow experiment.
        run_name: What to call the run; by default what it does.
    """

    tracking_uri: str | None = None
    experiment: str = "textremove"
    run_name: str | None = None


def resolve_uri(tracking_uri: str | None) -> str:
    """Says which MLflow store is meant. A SQLite path is made absolute: workers have other folders."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
    return uri


def mlflow_client(uri: str) -> MlflowClient:
    """Opens an MLflow store.

    Raises:
        ConfigError: It cannot be opened or reached.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):  # they tell of every table they make; importing sets their levels
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).parent.is_dir():
        raise ConfigError(f"--tracking-uri {uri}: there is no folder to put the file in")
    if uri.startswith("http"):
        # MLflow would try for minutes before it says that nobody is there.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        first_line = str(error).strip().splitlines()[0][:200]
        raise ConfigError(f"MLflow at {uri} cannot be used: {first_line}") from None
    return client


class MlflowTracker:
    """One run of an MLflow store.

    Args:
        uri: The store, as `resolve_uri` gives it.
        run_id: A run that is there already.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self.uri = uri
        self.run_id = run_id
        self.client = mlflow_client(uri)

    @classmethod
    def start(cls, uri: str, *, experiment: str, run_name: str, tags: Mapping[str, str]) -> MlflowTracker:
        """Starts a new run, in an experiment that is made when it is not there."""
        client = mlflow_client(uri)
        run = client.create_run(_experiment_id(client, uri, experiment), run_name=run_name, tags=dict(tags))
        return cls(uri, run.info.run_id)

    def log_params(self, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params  # a resumed run has them; they cannot change
        new = [
            Param(name, str(value)[:_LONGEST_PARAM])
            for name, value in flatten(params).items()
            if name not in known
        ]
        for start in range(0, len(new), _PARAMS_PER_CALL):
            self.client.log_batch(self.run_id, params=new[start : start + _PARAMS_PER_CALL])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        entries = [
            Metric(name, float(value), now, step or 0)
            for name, value in metrics.items()
            if math.isfinite(value)
        ]
        for start in range(0, len(entries), _METRICS_PER_CALL):
            self.client.log_batch(self.run_id, metrics=entries[start : start + _METRICS_PER_CALL])

    def log_history(self, history: Sequence[Mapping[str, float]]) -> None:
        # Asked of the store: a worker can be lost between saving an epoch and telling of it, or the reverse.
        name = next(iter(history[-1]))
        known = {metric.step for metric in self.client.get_metric_history(self.run_id, name)}
        for step, metrics in enumerate(history, start=1):
            if step not in known:
                self.log_metrics(metrics, step=step)

    def log_artifacts(self, path: Path, *, name: str = "") -> None:
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self.run_id, str(path), name or None)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.client.set_tag(self.run_id, name, value)

    def finish(self, status: str) -> None:
        """Closes the run as "FINISHED", "FAILED" or "KILLED"."""
        self.client.set_terminated(self.run_id, status)


def join_run(uri: str, run_id: str) -> Tracker:
    """Joins a run from a worker by its id; with the id "" nothing is tracked."""
    return MlflowTracker(uri, run_id) if run_id else NullTracker()


@contextmanager
def tracked_run(
    config: TrackingConfig, *, name: str, kind: str, params: Mapping[str, Any], run_id: str = ""
) -> Iterator[Tracker]:
    """Starts a run for the length of a with-block, and closes it by how the block ends.

    Args:
        config: Where.
        name: What to call the run when the config does not say.
        kind: What it does ("train_segmenter", ...); the tag `kind`.
        params: Its settings.
        run_id: A run to go on with, of a job that was cut short.

    Yields:
        The run; a NullTracker when nothing is to be tracked.
    """
    if config.tracking_uri == NO_TRACKING:
        yield NullTracker()
        return
    uri = resolve_uri(config.tracking_uri)
    if run_id and run_is_known(uri, run_id):
        tracker = MlflowTracker(uri, run_id)
        tracker.client.update_run(run_id, status="RUNNING")
    else:
        tracker = MlflowTracker.start(
            uri, experiment=config.experiment, run_name=config.run_name or name, tags={"kind": kind}
        )
    try:
        tracker.log_params(params)
        yield tracker
    except BaseException as error:
        tracker.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    tracker.finish("FINISHED")


def run_is_known(uri: str, run_id: str) -> bool:
    """Whether a store has a run of this id that was not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = mlflow_client(uri).get_run(run_id)
    except MlflowException:
        return False
    return bool(run.info.lifecycle_stage == "active")


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        if experiment.lifecycle_stage != "active":
            raise ConfigError(f"the MLflow experiment {name!r} was deleted; restore it or give another name")
        return str(experiment.experiment_id)
    location = None
    if uri.startswith("sqlite:///"):
        # Beside the file; MLflow itself would write to whatever folder the creator happens to be in.
        database = Path(uri.removeprefix("sqlite:///"))
        location = (database.parent / f"{database.stem}-artifacts" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=location))
