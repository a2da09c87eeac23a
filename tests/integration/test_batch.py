"""Batch removal through real Ray Data: the pixels, the manifest, going on after an interruption."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data
from PIL import Image

from textremove.attempts import RemovalConfig
from textremove.errors import ConfigError
from textremove.images import decode_mask, decode_photo, encode_like, read_photo
from textremove.onray.batch import BatchConfig, run_batch
from textremove.onray.cluster import check_gpus
from textremove.onray.stages import seed_of
from textremove.pipe.prepared import prepared_rows
from textremove.presets import load_inpainter, load_remover, load_segmenter
from textremove.removal import Remover

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PROMPTS = {
    "a.jpg": "Ball at the left",
    "sub/b.png": "ball",
    "c.webp": "ball at the nowhere",
    "broken.jpg": "ball",
    "missing.png": "ball",
    "wordless.png": "",
    "flat.bmp": "the ball",
}


def write_photos(folder: Path) -> Path:
    """Writes photos of several sizes, formats and defects, and the table that names them."""
    (folder / "sub").mkdir(parents=True)
    pixels = np.random.default_rng(3)

    def picture(height: int, width: int) -> Image.Image:
        coarse = pixels.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010F] = "a camera"
    picture(120, 200).save(folder / "a.jpg", quality=71, exif=exif)
    picture(90, 70).save(folder / "sub/b.png")
    picture(64, 64).save(folder / "c.webp")
    (folder / "broken.jpg").write_bytes(b"not a photo")
    picture(64, 64).save(folder / "wordless.png")
    picture(50, 60).save(folder / "flat.bmp")
    with (folder / "prompts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "prompt"), *PROMPTS.items()])
    return folder / "prompts.csv"


def rows_of(manifest: Path) -> dict[str, dict]:
    rows = pq.read_table(manifest).to_pylist()
    assert len({row["input_id"] for row in rows}) == len(rows)
    return {row["input_id"]: row for row in rows}


def test_batch_equals_remover_and_goes_on_where_it_stopped(ray_session, plain_models, tmp_path):
    table = write_photos(tmp_path / "photos")
    config = BatchConfig(
        inputs=table,
        out=tmp_path / "out",
        segmenter=plain_models.segmenter,
        inpainter=plain_models.inpainter,
        seed=5,
        batch_size=3,
    )
    lines: list[str] = []
    result = run_batch(config, progress=lines.append)

    assert result.statuses == {"ok": 3, "not_found": 1, "error": 3}
    assert result.reasons == {"not_found": 1, "not_an_image": 1, "unreadable": 1, "bad_prompt": 1}
    rows = rows_of(result.manifest)
    assert list(rows) == list(PROMPTS)

    # This segmenter finds its box in every photo, so that each removal goes through all of its attempts.
    remover = Remover(load_segmenter(plain_models.segmenter), load_inpainter(plain_models.inpainter))
    for name, output in {"a.jpg": "a.jpg", "sub/b.png": "sub/b.png", "flat.bmp": "flat.bmp.png"}.items():
        photo, row = read_photo(table.parent / name), rows[name]
        removal = remover.remove(photo.image, PROMPTS[name], seed=row["seed"])
        written = (config.out / row["output"]).read_bytes()
        assert row["output"] == f"images/{output}"
        assert written == encode_like(photo, removal.image), name
        assert row["output_sha256"] == hashlib.sha256(written).hexdigest()
        assert row["seed"] == seed_of(name, 5)
        assert row["mask_fraction"] == pytest.approx((removal.mask > 0).mean(), rel=1e-5)
        assert (row["verified"], row["verify_score"], row["attempts"]) == (False, 1.0, 3)
        assert row["kept_seed"] == removal.kept_seed
    assert result.num_unverified == 3
    assert rows["c.webp"]["verified"] is None
    assert decode_photo((config.out / "images/a.jpg").read_bytes()).exif, "the camera's name is lost"
    assert not list(config.out.rglob("*partial*"))

    # Again, with the missing photo there now: only what is not done is done.
    os.rename(table.parent / "c.webp", table.parent / "missing.png")
    before = {path: path.stat().st_mtime_ns for path in (config.out / "images").rglob("*.*")}
    again = run_batch(config, progress=lines.append)
    assert again.num_resumed == 4
    assert again.statuses == {"ok": 4, "not_found": 1, "error": 2}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_pixels_do_not_depend_on_batch_order_or_actors(ray_session, plain_models, tmp_path):
    table = write_photos(tmp_path / "photos")

    def digests(name: str, **changes: object) -> dict[str, str]:
        config = BatchConfig(
            removal=RemovalConfig(samples=2, attempts=2),
            inputs=table,
            out=tmp_path / name,
            segmenter=plain_models.segmenter,
            inpainter=plain_models.inpainter,
            **changes,
        )
        rows = rows_of(run_batch(config, progress=lambda line: None).manifest)
        return {name: row["output_sha256"] for name, row in rows.items() if row["status"] == "ok"}

    one = digests("one", batch_size=8)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert digests("two", batch_size=1, inpaint_actors=2) == one


def telea_batch(prepared: Path, out: Path, *, masks: bool = True, **given: Any) -> BatchConfig:
    """A batch over the test split of a prepared folder, which needs no inpainter's weights."""
    return BatchConfig(inputs=prepared, out=out, split="test", masks=masks, inpainter="telea", **given)


def test_prepared_split_with_its_own_masks(ray_session, prepared_scenes, tmp_path, monkeypatch):
    config = telea_batch(prepared_scenes, tmp_path / "out", batch_size=4)
    remover = load_remover("tiny", "telea")
    handed_on: list[int] = []
    iter_batches = ray.data.Dataset.iter_batches

    def counted(dataset: ray.data.Dataset, **given: object) -> Iterator[pa.Table]:
        for batch in iter_batches(dataset, **given):
            handed_on.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(ray.data.Dataset, "iter_batches", counted)
    result = run_batch(config, progress=lambda line: None)
    # Or a slow model's results come hours late, and all at once. The short last block may go with another.
    assert len(handed_on) > 1
    *blocks, largest = sorted(handed_on)
    assert max(blocks) <= config.batch_size
    assert largest < 2 * config.batch_size
    rows = rows_of(result.manifest)
    examples = list(prepared_rows(prepared_scenes, split="test"))
    assert set(rows) == {example["example_id"] for example in examples}
    for example in examples:
        row, photo = rows[example["example_id"]], decode_photo(example["image"])
        assert row["status"] == "ok"
        assert row["score"] is None
        removal = remover.remove(photo.image, example["prompt"], decode_mask(example["mask"]), row["seed"])
        assert (config.out / row["output"]).read_bytes() == encode_like(photo, removal.image)
        assert (row["verified"], row["attempts"]) == (removal.verified, len(removal.attempts))
    assert any(row["verified"] for row in rows.values())


def test_a_model_that_is_not_there_is_one_line(ray_session, prepared_scenes, tmp_path):
    config = telea_batch(prepared_scenes, tmp_path / "out", masks=False, segmenter="tinny")
    with pytest.raises(ConfigError, match="^unknown segmenter 'tinny'[^\n]*$"):
        run_batch(config, progress=lambda line: None)


def test_a_standstill_is_one_line_that_says_what_to_do(ray_session, prepared_scenes, tmp_path):
    # The actor takes longer to start.
    config = telea_batch(prepared_scenes, tmp_path / "out", stall_timeout_s=1)
    with pytest.raises(ConfigError, match="^nothing was done for 1 s; [^\n]*--stall-timeout-s[^\n]*$"):
        run_batch(config, progress=lambda line: None)


def test_gpus_that_a_local_ray_lacks_are_told_at_once(ray_session, prepared_scenes, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    lack = "--gpus-per-actor needs 1.5 GPUs at once, and there are 0"
    config = telea_batch(prepared_scenes, tmp_path / "out", gpus_per_actor=1.5)
    with pytest.raises(ConfigError, match=f"^{lack}; [^\n]*$"):
        run_batch(config, progress=lambda line: None)
    lines = []
    check_gpus(3, "ray://somewhere", flag="--gpus-per-actor", say=lines.append)  # a cluster may get more
    assert lines == [lack.replace("1.5", "3") + ": waiting for the cluster to start more"]
