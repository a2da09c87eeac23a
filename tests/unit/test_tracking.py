from __future__ import annotations

from pathlib import Path

import pytest

from textremove.onray.tracking import TrackingConfig, resolve_uri, tracked_run
from textremove.tracking import NullTracker, flatten


def test_nested_settings_are_flattened() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_default_store_is_an_absolute_file_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_uri("sqlite:///runs/x.db") == f"sqlite:///{tmp_path}/runs/x.db"


def test_a_flag_beats_the_environment_and_the_environment_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve_uri(None) == "http://server:5000"
    assert resolve_uri("http://other:5000") == "http://other:5000"


def test_nothing_is_tracked_when_nothing_is_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with tracked_run(TrackingConfig(tracking_uri="none"), name="a", kind="b", params={"c": 1}) as tracker:
        tracker.log_metrics({"loss": 1.0}, step=1)
        tracker.log_artifacts(tmp_path, name="model")
    assert isinstance(tracker, NullTracker)
    assert tracker.run_id == ""
    assert list(tmp_path.iterdir()) == []
