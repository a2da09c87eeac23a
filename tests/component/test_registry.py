"""Runs, promotion and comparison on a real MLflow store in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.compare_runs import describe, page
from textremove.errors import ConfigError, WeightsError
from textremove.onray.registry import CHAMPION, PromoteJob, Promotion, promote, registered_folder
from textremove.onray.runs import CompareJob, compare_runs
from textremove.onray.tracking import TrackingConfig, join_run, mlflow_client, resolve_uri, tracked_run
from textremove.report.page import render_report

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> TrackingConfig:
    return TrackingConfig(tracking_uri=f"sqlite:///{tmp_path}/runs.db")


def a_run(store: TrackingConfig, folder: Path, *, name: str, dice: float | None, data: str = "same") -> str:
    """Tracks a run with a model folder, as training and evaluation leave it."""
    model = folder / name
    model.mkdir(exist_ok=True)
    (model / "weights").write_text(name)
    with tracked_run(store, name=name, kind="train_segmenter", params={"lr": dice, "seed": 0}) as tracker:
        tracker.set_tags({"model_kind": "segmenter", "test_data": data})
        if dice is not None:
            tracker.log_metrics({"test_box_dice": dice, "best_val_loss": 1 - dice})
        tracker.log_artifacts(model, name="model")
    return tracker.run_id


def champion(store: TrackingConfig) -> str:
    return (registered_folder("segmenter", store) / "weights").read_text()


def test_the_better_model_is_champion_and_there_is_a_way_back(store: TrackingConfig, tmp_path: Path) -> None:
    def promoted(run_id: str, **changes: object) -> Promotion:
        return promote(PromoteJob(run_id=run_id, tracking=store, **changes))  # type: ignore[arg-type]

    with pytest.raises(WeightsError, match="no model 'segmenter'"):
        champion(store)
    good = a_run(store, tmp_path, name="good", dice=0.6)
    first = promoted(good)
    assert (first.promoted, first.version, first.reason) == (True, "1", "there was no champion")
    with pytest.raises(ConfigError, match="no earlier champion"):
        promote(PromoteJob(name="segmenter", rollback=True, tracking=store))

    worse = promoted(a_run(store, tmp_path, name="worse", dice=0.5))
    assert not worse.promoted
    assert worse.reason == "test_box_dice 0.5000 is not better than the 0.6000 of version 1"
    assert champion(store) == "good"

    other_data = promoted(a_run(store, tmp_path, name="other", dice=0.9, data="another"))
    assert not other_data.promoted
    assert "other examples" in other_data.reason

    better = a_run(store, tmp_path, name="better", dice=0.7)
    assert promoted(better).promoted
    assert champion(store) == "better"
    assert promoted(better).version == promoted(better).version  # registered once
    assert promoted(good, metric="best_val_loss").promoted is False  # of a loss, less is better

    back = promote(PromoteJob(name="segmenter", rollback=True, tracking=store))
    assert (back.version, champion(store)) == ("1", "good")
    promote(PromoteJob(name="segmenter", rollback=True, tracking=store))
    assert champion(store) == "better"

    unscored = a_run(store, tmp_path, name="unscored", dice=None)
    with pytest.raises(ConfigError, match="no metric 'test_box_dice'"):
        promoted(unscored)
    assert promoted(unscored, force=True).promoted
    assert champion(store) == "unscored"
    client = mlflow_client(resolve_uri(store.tracking_uri))
    assert client.get_model_version_by_alias("segmenter", CHAMPION).run_id == unscored


def test_runs_side_by_side(store: TrackingConfig, tmp_path: Path) -> None:
    first = a_run(store, tmp_path, name="first", dice=0.5)
    second = a_run(store, tmp_path, name="second", dice=0.75)
    comparison = compare_runs(CompareJob(tracking=store, run=(second[:12], first[:12])))
    assert [column.split()[0] for column in comparison.columns] == ["second", "first"]
    assert dict(comparison.params) == {"lr": ("0.75", "0.5")}  # the seed is the same in both
    assert dict(comparison.metrics)["test_box_dice"] == (0.75, 0.5)
    text = describe(comparison)
    assert "0.75" in text
    assert max(map(len, text.splitlines())) < 110
    assert "0.7500" in render_report(page(comparison))
    assert len(compare_runs(CompareJob(tracking=store, limit=1)).columns) == 1
    for mistake, words in (
        (CompareJob(tracking=store, run=("zzz",)), "0 runs have an id"),
        (CompareJob(tracking=store, kind="evaluate"), "no runs of kind evaluate"),
    ):
        with pytest.raises(ConfigError, match=words):
            compare_runs(mistake)


def test_a_run_is_joined_again_and_closed_by_how_it_ended(store: TrackingConfig) -> None:
    run_ids = []

    def interrupted() -> None:
        with tracked_run(store, name="a", kind="k", params={"n": 1}) as tracker:
            run_ids.append(tracker.run_id)
            join_run(resolve_uri(store.tracking_uri), tracker.run_id).log_metrics({"loss": 0.5}, step=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (run_id,) = run_ids
    client = mlflow_client(resolve_uri(store.tracking_uri))
    assert client.get_run(run_id).info.status == "KILLED"
    with tracked_run(store, name="a", kind="k", params={"n": 2}, run_id=run_id) as again:
        again.log_metrics({"loss": 0.25}, step=2)
    run = client.get_run(run_id)
    assert again.run_id == run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {"n": "1"}
    assert [metric.value for metric in client.get_metric_history(run_id, "loss")] == [0.5, 0.25]


def test_a_store_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder to put the file in"):
        mlflow_client(f"sqlite:///{tmp_path}/missing/runs.db")


def test_every_step_of_a_history_is_told_once(store: TrackingConfig) -> None:
    """A worker that goes on does not know whether its last epoch was told before it was lost."""
    history = [{"val_loss": 1 / epoch} for epoch in range(1, 5)]
    with tracked_run(store, name="a", kind="b", params={}) as tracker:
        for known in (1, 1, 3, 4):  # told twice; one missed; the next
            join_run(str(store.tracking_uri), tracker.run_id).log_history(history[:known])
    told = mlflow_client(str(store.tracking_uri)).get_metric_history(tracker.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in told] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]
