"""The same training once more: on one worker, and with a worker killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

from textremove.onray import train_segmenter as module
from textremove.onray.tracking import TrackingConfig, mlflow_client
from textremove.onray.train_segmenter import SegmenterJob, SegmenterResult, train_segmenter
from textremove.onray.windows import Order
from textremove.onray.workers import Place
from textremove.pipe.prepared import count_prepared

from .conftest import QUICK, keep_nothing_decoded

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NOWHERE = TrackingConfig(tracking_uri="none")


def losses(result: SegmenterResult) -> np.ndarray:
    return np.array([[epoch[name] for name in ("train_loss", "val_loss")] for epoch in result.history])


def check_history(store: str, run_id: str, num_epochs: int) -> None:
    """Every figure of every epoch is there once, and in order."""
    client = mlflow_client(store)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    names = [name for name in run.data.metrics if not name.startswith("best_")]
    assert "val_loss" in names
    for name in names:
        steps = [metric.step for metric in client.get_metric_history(run_id, name)]
        assert steps == list(range(1, num_epochs + 1)), name


def test_one_worker_learns_what_two_do(
    trained: SegmenterResult, uneven_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches and one batch norm leave errors of rounding, which a step multiplies by its rate.

    1% is promised, of validation losses. Training losses, in which no running statistics have a part, tell
    other batches from the same ones.
    """
    keep_nothing_decoded(monkeypatch)
    job = SegmenterJob(
        data=str(uneven_scenes),
        out=tmp_path / "one",
        image_size=64,
        training=QUICK,
        tracking=NOWHERE,
        num_workers=0,
    )
    one = train_segmenter(job, say=lambda line: None)
    assert count_prepared(uneven_scenes, split="train") % 2 == 1
    assert len(one.history) == 3
    train, validation = np.abs(losses(one) / losses(trained) - 1).T
    assert train.max() < 0.001, train
    assert validation.max() < 0.01, validation


@dataclass(frozen=True)
class KilledOnce:
    """Feeds training, and kills the second worker the first time it is in the middle of the third epoch."""

    feed: Any
    marker: Path

    @property
    def order(self) -> Order:
        order: Order = self.feed.order
        return order

    def batches(self, place: Place, *, epochs: range, **given: Any) -> Generator[Any]:
        for number, batch in enumerate(self.feed.batches(place, epochs=epochs, **given)):
            epoch, step = divmod(number, self.order.num_steps)
            middle = (3 - epochs.start, self.order.num_steps // 2)
            if place.rank == 1 and (epoch, step) == middle and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


def test_a_worker_killed_in_mid_epoch_changes_nothing(
    trained: SegmenterResult,
    uneven_scenes: Path,
    store: TrackingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    marker = tmp_path / "killed"
    keep_nothing_decoded(monkeypatch)
    feed = module.training_squares
    monkeypatch.setattr(module, "training_squares", lambda *given: KilledOnce(feed(*given), marker))
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        job = SegmenterJob(
            data=str(uneven_scenes),
            out=tmp_path / "segmenter",
            image_size=64,
            training=QUICK,
            tracking=store,
        )
        result = train_segmenter(job, say=lines.append)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert marker.exists()
    assert sum(line.startswith("going on after epoch") for line in lines) == 1, lines
    np.testing.assert_allclose(losses(result), losses(trained), rtol=1e-6)
    assert (result.best_epoch, result.threshold) == (trained.best_epoch, trained.threshold)
    check_history(str(store.tracking_uri), result.run_id, 3)
    experiment = mlflow_client(str(store.tracking_uri)).get_experiment_by_name(store.experiment)
    runs = mlflow_client(str(store.tracking_uri)).search_runs([experiment.experiment_id])
    assert sum(run.info.run_name == "segmenter" for run in runs) == 2  # the undisturbed one and this
