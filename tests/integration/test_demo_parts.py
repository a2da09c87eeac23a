"""The demo's own parts, on a model that needs no weights; the jobs between them have tests of their own."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from jobs._demo_pictures import (
    BROKEN_PHOTO,
    figure_one,
    first_photo,
    first_removals,
    remove_over_http,
    write_photos,
)
from jobs._service import service
from textremove.images import decode_image, decode_mask, read_image
from textremove.inpaint.classical import ClassicalInpainter
from textremove.pipe.prepared import prepared_rows
from textremove.removal import Remover
from textremove.segment.location_prior import LocationPriorSegmenter

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def prior(prepared_scenes: Path) -> LocationPriorSegmenter:
    rows = prepared_rows(prepared_scenes, split="train", columns=["prompt", "mask"])
    return LocationPriorSegmenter.fit((row["prompt"], decode_mask(row["mask"])) for row in rows)


@pytest.fixture(scope="module")
def remover(prior: LocationPriorSegmenter) -> Remover:
    return Remover(prior, ClassicalInpainter("telea"))


def test_figure_one_asks_one_picture_two_ways(remover: Remover) -> None:
    one, both = figure_one(remover)
    assert (one.prompt, both.prompt) == ("ball at the center left", "balls at the center")
    np.testing.assert_array_equal(one.image, both.image)
    assert one.mask.shape == one.image.shape[:2]


def test_first_removals_are_of_different_test_scenes_with_their_truth(
    remover: Remover, prepared_scenes: Path
) -> None:
    shown = first_removals(remover, prepared_scenes, 2)
    rows = list(prepared_rows(prepared_scenes, split="test"))
    assert shown[0].prompt == rows[0]["prompt"]
    np.testing.assert_array_equal(shown[0].truth, decode_image(rows[0]["truth"]))
    second = next(row for row in rows if row["photo_id"] != rows[0]["photo_id"])
    np.testing.assert_array_equal(shown[1].image, decode_image(second["image"]))


def test_photos_are_written_with_their_prompts_and_one_that_is_none(
    prepared_scenes: Path, tmp_path: Path
) -> None:
    table = write_photos(prepared_scenes, tmp_path / "photos", 3)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["path"] for row in rows]
    assert names[-1] == BROKEN_PHOTO
    assert len(names) == len(set(names)) == 4
    assert {Path(name).suffix for name in names[:-1]} == {".png", ".jpeg"}
    assert first_photo(table) == (table.parent / names[0], rows[0]["prompt"])
    for row in rows[:-1]:
        assert read_image(table.parent / row["path"]).shape == (64, 64, 3)
        assert " at the " in row["prompt"]


def test_the_service_answers_with_the_pixels_of_this_process(
    prior: LocationPriorSegmenter, remover: Remover, prepared_scenes: Path, tmp_path: Path
) -> None:
    prior.save_pretrained(tmp_path / "prior")
    row = next(iter(prepared_rows(prepared_scenes, split="test")))
    image = decode_image(row["image"])
    arguments = ["--segmenter", str(tmp_path / "prior"), "--inpainter", "telea"]
    with service(arguments, log=tmp_path / "serve.log") as url:
        answered = remove_over_http(url, image, row["prompt"])
        refused = remove_over_http(url, image, " ")
    assert answered.status == 200, answered.answer
    assert url in answered.request
    here = remover.remove(image, row["prompt"])
    np.testing.assert_array_equal(answered.shown.result, here.image)
    np.testing.assert_array_equal(answered.shown.mask, here.mask)
    assert refused.status == 422
    assert not refused.shown.mask.any()


def test_a_service_that_cannot_start_says_why(ray_session: None, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="status 2: .*no-such-model"),
        service(["--segmenter", "no-such-model"], log=tmp_path / "serve.log"),
    ):
        pass
