"""What a user gets wrong about training and evaluating: one line, before Ray starts or anything is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from textremove.errors import UserError
from textremove.onray.evaluate import EvaluateJob, evaluate
from textremove.onray.finetune_inpainter import InpainterJob, finetune_inpainter
from textremove.onray.tracking import TrackingConfig
from textremove.onray.train_segmenter import SegmenterJob, train_segmenter
from textremove.pipe.prepared import DATASET_FILE
from textremove.schema import SCHEMA_VERSION, SPLITS
from textremove.segment.training import SegmenterTrainConfig

NOWHERE = TrackingConfig(tracking_uri="none")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A folder that looks prepared; nobody gets as far as reading its pictures."""
    folder = tmp_path / "prepared"
    files = []
    for split in SPLITS:
        (folder / f"split={split}").mkdir(parents=True)
        (folder / f"split={split}" / "part-00000.parquet").touch()
        files.append({"path": f"split={split}/part-00000.parquet", "split": split, "examples": 8})
    info = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": "f",
        "files": files,
        "splits": {split: {"examples": 8, "photos": 8} for split in SPLITS},
    }
    (folder / DATASET_FILE).write_text(json.dumps(info))
    return folder


def line_of(call: object, job: object, tmp_path: Path) -> str:
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError) as mistake:
        call(job)  # type: ignore[operator]
    assert set(tmp_path.rglob("*")) == before
    line = str(mistake.value)
    assert "\n" not in line
    return line


def test_segmenter_mistakes(prepared: Path, tmp_path: Path) -> None:
    def line(**changes: object) -> str:
        fields = {"data": prepared, "out": tmp_path / "out", "tracking": NOWHERE} | changes
        return line_of(train_segmenter, SegmenterJob(**fields), tmp_path)  # type: ignore[arg-type]

    assert "no prepared folder" in line(data=tmp_path / "missing")
    assert "does not divide over 3 workers" in line(
        num_workers=3, training=SegmenterTrainConfig(batch_size=16)
    )
    assert "multiple of 32" in line(image_size=100)
    assert "--epochs" in line(training=SegmenterTrainConfig(epochs=0))
    assert "--num-workers" in line(num_workers=-1)
    assert "no model folder" in line(init=str(tmp_path / "no-model"))


def test_inpainter_mistakes(prepared: Path, tmp_path: Path) -> None:
    def line(**changes: object) -> str:
        fields = {"data": prepared, "out": tmp_path / "out", "tracking": NOWHERE} | changes
        return line_of(finetune_inpainter, InpainterJob(**fields), tmp_path)  # type: ignore[arg-type]

    assert "no prepared folder" in line(data=tmp_path / "missing")
    assert "unknown base 'nonsense'; choose tiny" in line(base="nonsense")
    assert "need at least one training example each" in line(num_workers=9)
    assert "--init nowhere: no such folder" in line(init="nowhere")


def test_evaluation_mistakes(prepared: Path, tmp_path: Path) -> None:
    def line(**changes: object) -> str:
        fields = {"data": prepared, "out": tmp_path / "out", "segmenter": (), "tracking": NOWHERE} | changes
        return line_of(evaluate, EvaluateJob(**fields), tmp_path)  # type: ignore[arg-type]

    assert "no prepared folder" in line(data=tmp_path / "missing")
    assert "there is no split 'exam'" in line(split="exam")
    assert "unknown segmenter 'nonsense'" in line(segmenter=("nonsense",))
    assert "no such folder" in line(adapter=str(tmp_path / "missing"))
    assert "nothing to evaluate" in line(base="")
    assert "unknown inpainter 'nonsense'" in line(base="nonsense")
    assert "tiny twice" in line(segmenter=("tiny", "tiny"))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    assert "not empty" in line(out=tmp_path / "used")
    without = json.loads((prepared / DATASET_FILE).read_text()) | {"settings": {"with_truth": False}}
    (prepared / DATASET_FILE).write_text(json.dumps(without))
    assert "--base '' to evaluate segmenters alone" in line()
    files = [entry for entry in without["files"] if entry["split"] != "test"]
    (prepared / DATASET_FILE).write_text(json.dumps(without | {"files": files}))
    assert "has no test examples" in line(segmenter=("tiny",), base="")
