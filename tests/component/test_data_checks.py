"""The checks that users run on their own prepared set: they pass on a good one and see what is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textremove.images import encode_mask
from textremove.pipe.prepared import DATASET_FILE
from textremove.pipe.scene_rows import write_scene_shards
from textremove.pipe.scenes import SceneConfig
from textremove.pipe.shard import ShardTask, prepare_shard
from textremove.pipe.source import IMAGE_COLUMNS, MASK_COLUMNS, choose_rows, find_shards, read_masks
from textremove.pipe.summary import dataset_info
from textremove.schema import EXAMPLE_SCHEMA, SPLITS
from textremove.storage import open_store

REPO = Path(__file__).resolve().parents[2]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder made without Ray."""
    scenes, out = tmp_path_factory.mktemp("scenes"), tmp_path_factory.mktemp("prepared")
    write_scene_shards(scenes, seed=3, num_scenes=40, config=SceneConfig(size=64))
    store = open_store(out)
    for split in SPLITS:
        store.make(f"split={split}")
    masks = [read_masks(shard) for shard in find_shards(scenes / "PIPE_Masks", MASK_COLUMNS)]
    (rows,) = choose_rows(find_shards(scenes / "PIPE", IMAGE_COLUMNS))
    summary = prepare_shard(ShardTask(index=0, source=rows), masks, store)
    store.write(DATASET_FILE, json.dumps(dataset_info([summary], store, {})).encode())
    return out


def _checks(folder: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/data",
        "--dataset",
        str(folder),
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=120)
    return done.stdout


def _changed(prepared: Path, copy: Path, change: Callable[[list[Row]], None]) -> Path:
    """A copy with other rows in its training split, whose digests are right all the same."""
    shutil.copytree(prepared, copy)
    info = json.loads((copy / DATASET_FILE).read_text())
    entry = next(entry for entry in info["files"] if entry["split"] == "train")
    rows = pq.read_table(copy / entry["path"], partitioning=None).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), copy / entry["path"])
    entry["sha256"] = hashlib.sha256((copy / entry["path"]).read_bytes()).hexdigest()
    (copy / DATASET_FILE).write_text(json.dumps(info))
    return copy


def test_a_good_set_passes(prepared: Path) -> None:
    assert "8 passed" in _checks(prepared)


def test_what_is_wrong_is_seen(prepared: Path, tmp_path: Path) -> None:
    def spoil(rows: list[Row]) -> None:
        rows[0]["prompt"] = "Add a " + rows[0]["prompt"]
        rows[1]["mask"] = encode_mask(np.zeros((64, 64), np.uint8))
        rows[2]["image"] = rows[2]["image"][:50]
        rows[3]["split"] = "test"
        rows[4]["example_id"] = rows[5]["example_id"]

    said = _checks(_changed(prepared, tmp_path / "spoilt", spoil))
    failed = {line.split("::")[1].split()[0] for line in said.splitlines() if line.startswith("FAILED")}
    assert failed == {
        "test_every_example_is_there_once",
        "test_no_photo_leaks_from_one_split_to_another",
        "test_prompts_are_clean",
        "test_masks_cover_something_and_not_everything",
        "test_pictures_decode_and_fit_together",
    }


def test_a_file_that_was_touched_is_seen(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "touched")
    file = next((tmp_path / "touched").rglob("*.parquet"))
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table, file, compression="GZIP")
    assert "test_files_are_those_that_were_written" in _checks(tmp_path / "touched")
