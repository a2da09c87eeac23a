from __future__ import annotations

import numpy as np
import pytest

from textremove.attempts import RemovalConfig
from textremove.images import decode_image, encode_image, encode_mask
from textremove.onray import stages
from textremove.onray.models import each_or_error
from textremove.segment.protocol import Segmentation

POISON = 77


class HalfSegmenter:
    """Finds the left half of whatever is called ball; chokes on one photo."""

    def segment(self, images, prompts):
        if any(image[0, 0, 0] == POISON for image in images):
            raise RuntimeError("CUDA error:\n  out of luck")
        results = []
        for image, prompt in zip(images, prompts, strict=True):
            mask = np.zeros(image.shape[:2], np.uint8)
            if prompt == "ball":
                mask[:, : image.shape[1] // 2] = 255
            results.append(Segmentation(mask=mask, raw=mask, score=0.75, found=bool(mask.any())))
        return results


class SeedInpainter:
    """Paints the hole with the seed."""

    resolution = 32
    multiple = 1
    textured = True

    def inpaint(self, images, masks, seeds):
        return [
            np.where(mask[..., None] > 0, np.uint8(seed % 251), image)
            for image, mask, seed in zip(images, masks, seeds, strict=True)
        ]


def photo(value=10, size=(40, 60)):
    return encode_image(np.full((*size, 3), value, np.uint8))


def new(input_id, image, prompt="Ball.", **given):
    return stages.new_row(input_id, prompt, 3, image=image, **given)


def run(rows, out):
    rows = stages.inpaint(stages.segment(stages.read(rows), HalfSegmenter()), SeedInpainter())
    return {row["input_id"]: row for row in stages.write(stages.as_table(rows).to_pylist(), out)}


def test_one_bad_photo_harms_no_other(tmp_path):
    rows = run(
        [
            new("good", photo()),
            new("poison", photo(POISON)),
            new("cut", photo()[:90]),
            new("text", b"hello"),
            new("absent", photo(), prompt="cat"),
            new("silent", photo(), prompt=" . "),
            stages.new_row("gone", "ball", 3, path=b"no/such/file.png"),
        ],
        tmp_path,
    )
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        "good": ("ok", ""),
        "poison": ("error", "segment_failed"),
        "cut": ("error", "truncated"),
        "text": ("error", "not_an_image"),
        "absent": ("not_found", "not_found"),
        "silent": ("error", "bad_prompt"),
        "gone": ("error", "unreadable"),
    }
    assert rows["poison"]["message"] == "RuntimeError: CUDA error: out of luck"
    assert [path.name for path in tmp_path.rglob("*.*") if path.is_file()] == ["good.png"]
    image = decode_image((tmp_path / rows["good"]["output"]).read_bytes())
    assert (image[20, 5] == stages.seed_of("good", 3) % 251).all()
    assert (image[20, 55] == 10).all()
    assert rows["good"]["mask_fraction"] == pytest.approx(0.5)


def test_each_photo_is_verified_by_its_prompt_and_says_what_was_done():
    rows = stages.segment(
        stages.read([new("seen", photo()), new("poison", photo()), new("silent", photo())]),
        HalfSegmenter(),
    )
    rows[1]["seed"] = POISON - 1  # the second filling is what the segmenter chokes on
    rows[2]["prompt"] = ""
    seen, poison, silent = stages.inpaint(
        rows, SeedInpainter(), HalfSegmenter(), removal=RemovalConfig(attempts=2, samples=2)
    )
    assert (seen["status"], seen["verified"], seen["verify_score"], seen["attempts"]) == (
        "ok",
        False,
        0.75,
        2,
    )
    assert seen["kept_seed"] == seen["seed"]
    assert seen["verify_seconds"] > 0
    assert (poison["status"], poison["reason"]) == ("error", "inpaint_failed")
    assert (silent["status"], silent["verified"], silent["attempts"]) == ("ok", None, 1)


def test_masks_of_the_dataset_are_used_as_they_are():
    mask = np.zeros((40, 60), np.uint8)
    mask[:10] = 255
    (row, empty) = stages.take_masks(
        [
            new("a", photo(), prompt="", mask=encode_mask(mask)),
            new("b", photo(), prompt="", mask=encode_mask(mask * 0)),
        ]
    )
    assert (row["status"], row["mask_fraction"], row["score"]) == ("", 0.25, None)
    assert empty["status"] == "not_found"


def test_seeds_differ_by_input_and_by_seed_and_never_change():
    assert stages.seed_of("a.jpg", 0) == 378369020
    assert len({stages.seed_of(name, seed) for name in "abc" for seed in range(3)}) == 9


def test_each_or_error_asks_once_when_all_goes_well():
    calls = []

    def call(items):
        calls.append(list(items))
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]

    assert each_or_error(call, ["a", "b"]) == ["A", "B"]
    assert calls == [["a", "b"]]
    first, second = each_or_error(call, ["a", "bad"])
    assert first == "A"
    assert isinstance(second, ValueError)
    assert each_or_error(call, []) == []
