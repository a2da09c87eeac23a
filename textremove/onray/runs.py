"""Runs of an MLflow store side by side: the settings in which they differ, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from textremove.errors import ConfigError
from textremove.onray.tracking import NO_TRACKING, TrackingConfig, mlflow_client, resolve_uri

# Differ in every run and say nothing about it.
_NOT_COMPARED = (
    "out",
    "overwrite",
    "address",
    "tracking.run_name",
    "tracking.tracking_uri",
    "tracking.experiment",
)


@dataclass(frozen=True, kw_only=True)
class CompareJob:
    """Which runs to compare.

    Attributes:
        run: Ids of the runs, or how they begin; by default the latest of the experiment.
        kind: Only runs of this kind: train_segmenter, finetune_inpainter, evaluate; "" for all.
        limit: At most so many, newest first.
        out: An HTML page to write; by default the table is printed only.
        tracking: The MLflow store and experiment.
    """

    run: tuple[str, ...] = ()
    kind: str = ""
    limit: int = 8
    out: Path | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs as columns, what is known of them as rows.

    Attributes:
        columns: What the runs are called: name and the beginning of the id.
        about: Rows (name, one value for each run): kind, status, start.
        params: Rows of the settings in which the runs differ; "" where a run has none.
        metrics: Rows of the figures, the last of each; None where a run has none.
    """

    columns: tuple[str, ...]
    about: tuple[tuple[str, tuple[str, ...]], ...]
    params: tuple[tuple[str, tuple[str, ...]], ...]
    metrics: tuple[tuple[str, tuple[float | None, ...]], ...]


def compare_runs(job: CompareJob) -> Comparison:
    """Reads runs from MLflow and lays them side by side, newest first.

    Raises:
        ConfigError: There is no such run, no such experiment, or nothing to compare.
    """
    runs = _find(job)
    names = sorted({name for run in runs for name in run.data.params} - set(_NOT_COMPARED))
    params = [(name, tuple(run.data.params.get(name, "") for run in runs)) for name in names]
    metrics = sorted({name for run in runs for name in run.data.metrics})
    return Comparison(
        columns=tuple(f"{run.info.run_name} ({run.info.run_id[:8]})" for run in runs),
        about=(
            ("kind", tuple(run.data.tags.get("kind", "") for run in runs)),
            ("status", tuple(run.info.status for run in runs)),
            ("started", tuple(_moment(run.info.start_time) for run in runs)),
        ),
        params=tuple((name, values) for name, values in params if len(set(values)) > 1),
        metrics=tuple((name, tuple(run.data.metrics.get(name) for run in runs)) for name in metrics),
    )


def _find(job: CompareJob) -> Sequence[Any]:
    if job.tracking.tracking_uri == NO_TRACKING:
        raise ConfigError("comparing needs an MLflow store; leave out --tracking-uri none")
    uri = resolve_uri(job.tracking.tracking_uri)
    client = mlflow_client(uri)
    experiment = client.get_experiment_by_name(job.tracking.experiment)
    if experiment is None:
        raise ConfigError(
            f"MLflow at {uri} has no experiment {job.tracking.experiment!r}; nothing was tracked there"
        )
    wanted = f"tags.kind = '{job.kind}'" if job.kind else ""
    runs = client.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time DESC"])
    if job.run:
        found = [[run for run in runs if run.info.run_id.startswith(prefix)] for prefix in job.run]
        for prefix, matches in zip(job.run, found, strict=True):
            if len(matches) != 1:
                raise ConfigError(
                    f"{len(matches)} runs have an id that begins with {prefix!r}; one is needed"
                )
        return [matches[0] for matches in found]
    if not runs:
        raise ConfigError(
            f"the experiment {job.tracking.experiment!r} has no runs{f' of kind {job.kind}' * bool(job.kind)}"
        )
    return list(runs[: job.limit])


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
