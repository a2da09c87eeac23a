"""prepare_pipe through the real Ray, on real photos and on procedural scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from textremove.errors import ConfigError, DatasetError
from textremove.images import decode_image, decode_mask, encode_image, encode_mask
from textremove.onray.datasets import read_prepared
from textremove.onray.prepare import PAGE_FILE, PrepareConfig, prepare
from textremove.pipe.prepared import (
    DATASET_FILE,
    check_truth,
    count_prepared,
    prepared_rows,
    read_dataset_info,
)
from textremove.pipe.splits import split_of
from textremove.schema import EXAMPLE_SCHEMA, SPLITS

pytestmark = pytest.mark.integration

DEFECTS = {  # of pipe-coco's README
    "image_truncated": ["COCO/30/30000"],
    "image_not_an_image": ["COCO/64/64001"],
    "prompt_too_short": ["COCO/49/49007"],
    "mask_missing": ["COCO/74/74007"],
    "mask_empty": ["COCO/86/86000"],
}
MENDED = {"mask_duplicate": ["COCO/89/89006"], "mask_resized": ["COCO/110/110016"]}


def config_of(folder: Path, out: Path, **changes: object) -> PrepareConfig:
    return PrepareConfig(
        **({"images": folder / "PIPE", "masks": folder / "PIPE_Masks", "out": out} | changes)
    )


def test_every_planted_defect_is_counted_under_its_reason(prepared_coco: Path) -> None:
    info = read_dataset_info(prepared_coco)
    assert (info["rows_read"], info["examples_kept"]) == (202, 197)
    assert {reason: entry["samples"] for reason, entry in info["rejected"].items()} == DEFECTS
    assert {reason: entry["samples"] for reason, entry in info["notes"].items()} == MENDED
    assert all(entry["count"] == 1 for entry in (info["rejected"] | info["notes"]).values())
    assert count_prepared(prepared_coco) == 197
    assert sum(info["classes"].values()) == sum(info["places"].values()) == 197


def test_no_photo_is_in_two_splits(prepared_coco: Path) -> None:
    photos = {
        split: {row["photo_id"] for row in prepared_rows(prepared_coco, split=split, columns=["photo_id"])}
        for split in SPLITS
    }
    assert not photos["train"] & photos["val"]
    assert not photos["train"] & photos["test"]
    assert not photos["val"] & photos["test"]
    assert {split_of(photo) for photo in photos["test"]} == {"test"}
    info = read_dataset_info(prepared_coco)
    assert info["photos_in_two_splits"] == 0
    assert {split: sizes["photos"] for split, sizes in info["splits"].items()} == {
        split: len(photos[split]) for split in SPLITS
    }


def test_image_mask_and_truth_of_an_example_fit(prepared_coco: Path) -> None:
    ids = []
    for row in prepared_rows(prepared_coco, split="test"):
        ids.append(row["example_id"])
        size = (row["height"], row["width"])
        mask = decode_mask(row["mask"])
        assert decode_image(row["image"]).shape == decode_image(row["truth"]).shape == (*size, 3)
        assert mask.shape == size
        assert mask.any()
    assert len(set(ids)) == len(ids) == count_prepared(prepared_coco, split="test")


def test_a_dataset_has_the_rows_that_the_files_have(prepared_scenes: Path) -> None:
    for split in (*SPLITS, None):
        dataset = read_prepared(prepared_scenes, split=split)
        assert dataset.schema().names == EXAMPLE_SCHEMA.names
        read = {
            row["example_id"]: row["split"]
            for row in dataset.select_columns(["example_id", "split"]).take_all()
        }
        rows = prepared_rows(prepared_scenes, split=split, columns=["example_id", "split"])
        assert read == {row["example_id"]: row["split"] for row in rows}


def test_preparing_again_gives_the_same_bytes(
    ray_session: None, scene_shards: Path, prepared_scenes: Path, tmp_path: Path
) -> None:
    prepare(config_of(scene_shards, tmp_path / "again"))
    first, again = ((path / DATASET_FILE).read_text() for path in (prepared_scenes, tmp_path / "again"))
    assert first == again  # the sha256 of every file is in it


def test_limit_and_resolution(ray_session: None, pipe_coco: Path, tmp_path: Path) -> None:
    info = prepare(config_of(pipe_coco, tmp_path / "small", limit=60, resolution=128))
    assert info["rows_read"] == 60
    rows = list(prepared_rows(tmp_path / "small", columns=["height", "width", "image"]))
    assert {max(row["height"], row["width"]) for row in rows} == {128}
    assert len({(row["height"], row["width"]) for row in rows}) > 3  # the photos keep their own shapes


def test_a_folder_in_the_way_is_left_alone(ray_session: None, scene_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        prepare(config_of(scene_shards, tmp_path / "out"))
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"
    prepare(config_of(scene_shards, tmp_path / "out", overwrite=True, limit=20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert json.loads((tmp_path / "out" / DATASET_FILE).read_text())["rows_read"] == 20


def test_a_prepared_folder_has_a_page_to_look_at(prepared_coco: Path) -> None:
    page = (prepared_coco / PAGE_FILE).read_text()
    assert "image_truncated" in page
    assert page.count("data:image/jpeg;base64,") == 3 * 12
    assert "Examples by place" in page


def test_photos_of_one_s_own_train_a_segmenter_but_no_inpainter(ray_session: None, tmp_path: Path) -> None:
    lines = ["image,prompt"]
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    for k in range(30):
        photo = np.full((20, 30, 3), 8 * k, np.uint8)
        (tmp_path / "photos" / f"{k}.png").write_bytes(encode_image(photo))
        (tmp_path / "masks" / f"{k}.png").write_bytes(encode_mask(photo[..., 0] // 255 + 255))
        lines.append(f"{k}.png,dog at the left")
    (tmp_path / "prompts.csv").write_text("\n".join(lines))
    job = PrepareConfig(
        images=f"{tmp_path}/photos",
        masks=f"{tmp_path}/masks",
        out=f"{tmp_path}/out",
        format="folder",
        prompts=f"{tmp_path}/prompts.csv",
    )
    info = prepare(job)
    assert info["examples_kept"] == 30
    assert [row["truth"] for row in prepared_rows(tmp_path / "out", columns=["truth"])] == [None] * 30
    with pytest.raises(DatasetError, match="no photos without the object"):
        check_truth(tmp_path / "out")


def test_masks_of_another_dataset_are_a_mistake_and_leave_nothing(
    ray_session: None, scene_shards: Path, pipe_coco: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="no key is in both"):
        prepare(config_of(scene_shards, tmp_path / "out", masks=pipe_coco / "PIPE_Masks"))
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_named_in_one_line_and_leaves_nothing(
    ray_session: None, scene_shards: Path, tmp_path: Path
) -> None:
    shards = sorted((scene_shards / "PIPE" / "data").glob("*.parquet"))
    copies = tmp_path / "PIPE"
    copies.mkdir()
    for shard in shards:
        (copies / shard.name).write_bytes(shard.read_bytes())
    data = bytearray(shards[1].read_bytes())
    data[4:2000] = bytes(1996)  # the pictures' pages; footer and keys stay whole
    (copies / shards[1].name).write_bytes(bytes(data))
    with pytest.raises(DatasetError, match=f"{shards[1].name} cannot be read as parquet") as error:
        prepare(config_of(scene_shards, tmp_path / "out", images=copies))
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"PIPE", "out.preparing"}  # finished shards stay
