"""The MLflow model registry: which version of a model is the champion, by a metric, with a way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textremove.checkpoint import MANIFEST_FILE, read_manifest
from textremove.errors import ConfigError, WeightsError
from textremove.onray.tracking import NO_TRACKING, TrackingConfig, mlflow_client, resolve_uri
from textremove.onray.trainer import MODEL_ARTIFACT

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS = "champion", "previous-champion"

_KIND_TAG = "model_kind"
_DEFAULT_METRICS = {"segmenter": "test_box_dice", "inpainter": "test_psnr"}
_LOWER_IS_BETTER = ("loss", "seconds")  # metrics that end so; of all others, more is better


@dataclass(frozen=True, kw_only=True)
class PromoteJob:
    """Which model to make the champion.

    Attributes:
        run_id: The MLflow run that made the model.
        model: Or the model's folder, which names its run.
        name: The registered model; by default what the run made: "segmenter" or "inpainter".
        metric: What the champion must be beaten on; by default test_box_dice of segmenters and test_psnr of
            inpainters, which jobs.evaluate leaves with the run that made the model.
        force: Whether to promote without a comparison.
        rollback: Instead of promoting, make the champion before the present one the champion again.
        tracking: The MLflow store.
    """

    run_id: str = ""
    model: Path | None = None
    name: str = ""
    metric: str = ""
    force: bool = False
    rollback: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What came of it.

    Attributes:
        name: The registered model.
        version: The version that was registered, or rolled back to.
        promoted: Whether it is the champion now.
        reason: Why, in one sentence.
    """

    name: str
    version: str
    promoted: bool
    reason: str


def promote(job: PromoteJob) -> Promotion:
    """Registers a run's model, and makes it the champion if it beats the present one.

    Raises:
        ConfigError: The run, the metric or a champion to go back to is not there.
    """
    if job.tracking.tracking_uri == NO_TRACKING:
        raise ConfigError("promoting needs an MLflow store; leave out --tracking-uri none")
    client = mlflow_client(resolve_uri(job.tracking.tracking_uri))
    if job.rollback:
        return _roll_back(client, job.name)
    run = _run(client, job)
    name = job.name or run.data.tags.get(_KIND_TAG, "")
    if not name:
        raise ConfigError(f"run {run.info.run_id} does not say what it made; give a --name")
    metric = job.metric or _DEFAULT_METRICS.get(name, "")
    value = run.data.metrics.get(metric)
    if value is None and not job.force:
        known = ", ".join(sorted(run.data.metrics)) or "none"
        raise ConfigError(
            f"run {run.info.run_id} has no metric {metric!r} (it has: {known}); run jobs.evaluate on its "
            "model, name one with --metric, or --force"
        )
    version = _register(client, name, run)
    champion = _version_at(client, name, CHAMPION)
    promoted, reason = _judge(client, run, champion, metric, force=job.force)
    if promoted:
        if champion is not None and str(champion.version) != version:  # MLflow gives it as a number here
            client.set_registered_model_alias(name, PREVIOUS, champion.version)
        client.set_registered_model_alias(name, CHAMPION, version)
    return Promotion(name=name, version=version, promoted=promoted, reason=reason)


def registered_folder(name: str, tracking: TrackingConfig, *, alias: str = CHAMPION) -> Path:
    """Fetches the folder of a registered model; a local store's own folder is given as it is.

    Raises:
        WeightsError: There is no such model, or its files are gone.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri = resolve_uri(tracking.tracking_uri)
    version = _version_at(mlflow_client(uri), name, alias)
    if version is None:
        raise WeightsError(
            f"MLflow at {uri} has no model {name!r} with the alias {alias!r}; run jobs.promote"
        )
    try:
        return Path(download_artifacts(artifact_uri=version.source, tracking_uri=uri))
    except (MlflowException, OSError) as error:
        raise WeightsError(f"version {version.version} of {name} cannot be fetched: {error}") from None


def _run(client: MlflowClient, job: PromoteJob) -> Any:
    from mlflow.exceptions import MlflowException

    run_id = job.run_id
    if job.model is not None:
        if not (job.model / MANIFEST_FILE).is_file():
            raise ConfigError(f"--model {job.model}: no model folder there")
        run_id = str(read_manifest(job.model)["metadata"].get("run_id", ""))
    if not run_id:
        raise ConfigError("name what to promote: --run-id ID, or --model FOLDER of a model that was tracked")
    try:
        run = client.get_run(run_id)
    except MlflowException:
        raise ConfigError(f"there is no run {run_id!r} in this MLflow store; see jobs.compare_runs") from None
    if not client.list_artifacts(run_id, MODEL_ARTIFACT):
        raise ConfigError(f"run {run_id} made no model; see jobs.compare_runs for those that did")
    return run


def _register(client: MlflowClient, name: str, run: Any) -> str:
    """Registers a run's model folder, unless it is registered already; gives its version."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.run_id == run.info.run_id:
            return str(known.version)
    source = f"{run.info.artifact_uri}/{MODEL_ARTIFACT}"
    return str(client.create_model_version(name, source, run_id=run.info.run_id).version)


def _version_at(client: MlflowClient, name: str, alias: str) -> Any | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException:  # no such model, or no such alias
        return None


def _judge(
    client: MlflowClient, run: Any, champion: Any | None, metric: str, *, force: bool
) -> tuple[bool, str]:
    """Says whether a run's model becomes the champion, and why."""
    value = run.data.metrics.get(metric)
    if champion is None:
        return True, "there was no champion"
    if champion.run_id == run.info.run_id:
        return True, "it is the champion already"
    if force:
        return True, "forced, without a comparison"
    rival = client.get_run(champion.run_id)
    rival_value = rival.data.metrics.get(metric)
    against = f"the champion, version {champion.version},"
    if rival_value is None:
        return False, f"{against} has no {metric}; run jobs.evaluate on it, or --force"
    data_tag = f"{metric.split('_')[0]}_data"
    if run.data.tags.get(data_tag) != rival.data.tags.get(data_tag):
        return False, f"{against} was scored on other examples; run jobs.evaluate on both alike, or --force"
    lower = metric.endswith(_LOWER_IS_BETTER)
    better = value < rival_value if lower else value > rival_value
    verdict = "better" if better else "not better"
    return (
        better,
        f"{metric} {value:.4f} is {verdict} than the {rival_value:.4f} of version {champion.version}",
    )


def _roll_back(client: MlflowClient, name: str) -> Promotion:
    if not name:
        raise ConfigError("--rollback needs a --name: segmenter or inpainter")
    present, previous = _version_at(client, name, CHAMPION), _version_at(client, name, PREVIOUS)
    if present is None or previous is None:
        raise ConfigError(f"{name} has no earlier champion to go back to")
    client.set_registered_model_alias(name, CHAMPION, previous.version)
    client.set_registered_model_alias(name, PREVIOUS, present.version)
    reason = f"rolled back from version {present.version}"
    return Promotion(name=name, version=str(previous.version), promoted=True, reason=reason)
