"""Photos of one's own as rows: the CSV file, what is missing, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from textremove.errors import DatasetError
from textremove.images import encode_image, encode_mask
from textremove.pipe.folder import read_folder
from textremove.pipe.shard import ShardTask, prepare_shard
from textremove.schema import SPLITS
from textremove.storage import Store, open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 255
    for k in range(6):
        photo = encode_image(np.full((20, 30, 3), 20 * k, np.uint8), format="jpeg")
        (tmp_path / "photos" / f"{k}.jpg").write_bytes(photo)
        (tmp_path / "masks" / f"{k}.png").write_bytes(encode_mask(mask))
    return tmp_path


@pytest.fixture
def out(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "out")
    for split in SPLITS:
        store.make(f"split={split}")
    return store


def _read(folder: Path) -> tuple[list, bool]:  # type: ignore[type-arg]
    return read_folder(f"{folder}/photos", f"{folder}/masks", f"{folder}/prompts.csv")


def test_photos_masks_and_prompts_become_examples(folder: Path, out: Store) -> None:
    lines = ["image,prompt", *(f'{k}.jpg,"The Dog at the left"' for k in range(4)), "4.jpg,cup", "9.jpg,cup"]
    (folder / "prompts.csv").write_text("\n".join(lines))
    (source,), with_truth = _read(folder)
    assert not with_truth
    task = ShardTask(index=0, source=source, with_truth=with_truth)
    summary = prepare_shard(task, [], out)
    assert (summary.rows_read, summary.examples.num_rows) == (6, 5)
    assert summary.rejected.samples == {"mask_missing": ["line 7: 9.jpg"]}
    rows = [
        row
        for file in summary.files
        for row in pq.read_table(out.path(file["path"]), partitioning=None).to_pylist()
    ]
    assert {row["prompt"] for row in rows} == {"dog at the left", "cup"}
    assert {(row["object_class"], row["place"]) for row in rows} == {("dog", "left"), ("cup", "")}
    assert {row["truth"] for row in rows} == {None}
    assert {row["photo_id"] for row in rows} == {f"folder/{k}.jpg" for k in range(5)}


def test_masks_and_truths_may_be_named(folder: Path, out: Store) -> None:
    lines = [
        "image,mask,truth,prompt",
        "0.jpg,5.png,1.jpg,dog at the left",
        "2.jpg,,,cup",
        "3.jpg,,8.jpg,cup",
    ]
    (folder / "prompts.csv").write_text("\n".join(lines))
    (source,), with_truth = _read(folder)
    assert with_truth
    summary = prepare_shard(ShardTask(index=0, source=source), [], out)
    assert summary.examples["photo_id"].to_pylist() == ["folder/0.jpg"]
    assert summary.rejected.counts == {"truth_missing": 2}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("photo,prompt\n", "has the columns photo, prompt; it takes image and prompt"),
        ("", r"has the columns \(none\)"),
        ("image,prompt\n", "no line under its heading"),
        (None, "cannot be read as text"),
    ],
)
def test_a_table_that_is_none_is_one_line(folder: Path, text: str | None, line: str) -> None:
    if text is not None:
        (folder / "prompts.csv").write_text(text)
    with pytest.raises(DatasetError, match=line) as error:
        _read(folder)
    assert "\n" not in str(error.value)
