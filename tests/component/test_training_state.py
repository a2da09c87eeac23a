"""What a training loop decides by comes back from a checkpoint. The loop alone, in process, without Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.train
import torch

from textremove.checkpoint import load_tensors
from textremove.images import encode_image, encode_mask
from textremove.onray import segmenter_loop
from textremove.onray.feeding import Order, StoredSquares
from textremove.onray.segmenter_loop import BEST_FOLDER, LAST_FOLDER, Progress, SegmenterLoop
from textremove.onray.training_job import WorkerOrders
from textremove.onray.workers import STATE_FILE, Place, restored
from textremove.pipe.prepared import DATASET_FILE
from textremove.pipe.scenes import SceneConfig
from textremove.pretraining import SceneArrays, make_scene_arrays
from textremove.schema import EXAMPLE_SCHEMA, SCHEMA_VERSION
from textremove.segment.tiny import build_tiny_segmenter
from textremove.segment.training import SegmenterTrainConfig
from textremove.tracking import NullTracker

NUM_TRAIN, SIDE = 24, 32
TRAINING = SegmenterTrainConfig(
    epochs=40,
    batch_size=8,
    learning_rate=1e-2,
    text_learning_rate=1e-3,
    plateau_patience=1,
    early_stopping_patience=6,
)


@dataclass(frozen=True)
class Run:
    """A training that is over.

    Attributes:
        progress: Where it ended.
        saved: Folder of the checkpoints of all its epochs.
    """

    progress: Progress
    saved: Path

    def checkpoint(self, epoch: int) -> Path:
        return self.saved / f"epoch-{epoch:04d}"

    def figures(self) -> list[tuple[float, ...]]:
        return [
            tuple(epoch[name] for name in ("train_loss", "val_loss", "learning_rate"))
            for epoch in self.progress.history
        ]


@pytest.fixture(scope="module")
def scenes() -> SceneArrays:
    return make_scene_arrays(NUM_TRAIN + 8, 5, SceneConfig(size=64), lambda *_: None)


@pytest.fixture(scope="module")
def validation(scenes: SceneArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder that holds the last eight scenes for validation."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "split=val").mkdir()
    rows = [
        {"image": encode_image(picture), "mask": encode_mask(mask), "prompt": prompt}
        for picture, mask, prompt in zip(
            scenes.pictures[NUM_TRAIN:],
            scenes.masks[NUM_TRAIN:],
            scenes.prompts[NUM_TRAIN:],
            strict=True,
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), folder / "split=val" / "part.parquet")
    info = {
        "schema_version": SCHEMA_VERSION,
        "files": [{"path": "split=val/part.parquet", "split": "val", "examples": 8}],
        "splits": {"train": {"examples": 0}, "val": {"examples": 8}, "test": {"examples": 0}},
    }
    (folder / DATASET_FILE).write_text(json.dumps(info))
    return folder


Train = Callable[..., Run]


@pytest.fixture
def train(scenes: SceneArrays, validation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs the worker's loop as the only worker, from a checkpoint or from nothing."""
    squares = {
        "image": scenes.pictures[:NUM_TRAIN, ::2, ::2],
        "mask": scenes.masks[:NUM_TRAIN, ::2, ::2],
        "prompt": np.array(scenes.prompts[:NUM_TRAIN]),
    }
    order = Order(num_rows=NUM_TRAIN, batch_size=TRAINING.batch_size, seed=TRAINING.seed)
    words = {word for prompt in scenes.prompts for word in prompt.split()}
    monkeypatch.setattr(ray, "get", lambda value: value)
    monkeypatch.setattr(segmenter_loop, "my_place", lambda: Place(rank=0, size=1))
    monkeypatch.setattr(segmenter_loop, "my_tracker", lambda *_: NullTracker())

    def run(name: str, checkpoint: Path | None = None) -> Run:
        saved = tmp_path / name
        saved.mkdir()
        last: dict[str, Any] = {}

        def keep(metrics: Mapping[str, float], folder: Path, *, name: str) -> None:
            shutil.move(folder, saved / name)
            last["folder"] = saved / name

        start = None if checkpoint is None else ray.train.Checkpoint.from_directory(str(checkpoint))
        monkeypatch.setattr(ray.train, "get_checkpoint", lambda: start)
        monkeypatch.setattr(segmenter_loop, "report_checkpoint", keep)
        model = build_tiny_segmenter(words, seed=0)
        object.__setattr__(model.config, "image_size", SIDE)
        orders = WorkerOrders(
            data=str(validation),
            scratch=tmp_path,
            bfloat16=False,
            gpu=False,
            tracking_uri="none",
            run_id="",
            say=lambda line: None,
        )
        loop = SegmenterLoop(
            orders=orders,
            model=model,
            squares=StoredSquares(blocks=(squares,), order=order),
            training=TRAINING,
        )
        segmenter_loop.train_segmenter_worker({"loop": loop})
        return Run(restored(Progress, json.loads((last["folder"] / STATE_FILE).read_text())), saved)

    return run


@pytest.mark.slow
def test_a_training_that_goes_on_decides_as_one_that_was_never_stopped(train: Train) -> None:
    whole = train("whole")
    rates = [epoch["learning_rate"] for epoch in whole.progress.history]
    best, end = whole.progress.best_epoch, whole.progress.epoch
    assert best + TRAINING.early_stopping_patience == end < TRAINING.epochs  # it stopped early
    assert rates[-1] < rates[best - 1]  # a plateau ended after the best epoch
    for middle in (best, best + 3):  # before the rate falls, and after
        resumed = train(f"resumed-{middle}", whole.checkpoint(middle))
        assert resumed.figures() == whole.figures()
        assert resumed.progress.best_epoch == best
        assert resumed.progress.calibration == whole.progress.calibration
        for name in (BEST_FOLDER, LAST_FOLDER):
            again = load_tensors(resumed.checkpoint(end) / name)
            for key, value in load_tensors(whole.checkpoint(end) / name).items():
                assert torch.equal(again[key], value), (name, key)
