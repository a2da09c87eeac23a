"""The weights that come with the package do what the README says of them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from textremove.inpaint.metrics import in_mask_error, psnr
from textremove.pipe.prompts import refine_prompt
from textremove.pipe.scene_rows import figure_one_scene, scene_rows
from textremove.presets import load_inpainter, load_segmenter, shipped
from textremove.pretraining import CALIBRATION_SEED, PRETRAINING_SEED
from textremove.removal import fill_holes
from textremove.segment.location_prior import LocationPriorSegmenter
from textremove.segment.masks import box_mask
from textremove.segment.metrics import dice
from textremove.segment.protocol import Segmenter

UNSEEN_SEED = 11


@dataclass(frozen=True, kw_only=True)
class Example:
    prompt: str
    image: np.ndarray
    mask: np.ndarray
    truth: np.ndarray


def _decode(cell: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))  # type: ignore[index]


def _examples(seed: int, num_scenes: int) -> list[Example]:
    assert seed not in (PRETRAINING_SEED, CALIBRATION_SEED)
    return [
        Example(
            prompt=refine_prompt(str(row["Instruction_Class"]), str(row["object_location"])).prompt,
            image=_decode(row["target_img"]),
            mask=_decode(row["mask"]),
            truth=_decode(row["source_img"]),
        )
        for row in scene_rows(seed, num_scenes)
    ]


def _box_dice(segmenter: Segmenter, examples: list[Example]) -> float:
    found = segmenter.segment([e.image for e in examples], [e.prompt for e in examples])
    return float(
        np.mean([dice(box_mask(f.raw), box_mask(e.mask)) for f, e in zip(found, examples, strict=True)])
    )


def test_all_weights_together_are_under_sixteen_megabytes_and_have_a_card() -> None:
    folder = shipped("segmenter").parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16_000_000
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl", ".ckpt")]
    assert "jobs.pretrain_tiny" in (folder / "README.md").read_text()


def test_the_segmenter_beats_the_location_prior_by_far() -> None:
    prior = LocationPriorSegmenter.fit((e.prompt, e.mask) for e in _examples(UNSEEN_SEED + 1, 150))
    examples = _examples(UNSEEN_SEED, 50)
    ours, baseline = (_box_dice(segmenter, examples) for segmenter in (load_segmenter("tiny"), prior))
    assert ours >= 0.75
    assert ours >= 1.7 * baseline


@pytest.mark.parametrize("prompt", ["ball at the center left", "balls at the center"])
def test_figure_one_finds_one_ball_or_both(prompt: str) -> None:
    picture, masks = figure_one_scene()
    found = load_segmenter("tiny").segment([picture], [prompt])[0]
    assert found.found
    assert dice(found.mask, masks[prompt]) > 0.8


def test_the_adapter_comes_nearer_to_what_lay_behind_than_the_base() -> None:
    examples = _examples(UNSEEN_SEED, 8)
    images, masks = [e.image for e in examples], [e.mask for e in examples]
    seeds = list(range(len(examples)))

    def mean_psnr(name: str) -> float:
        filled = fill_holes(load_inpainter(name), images, masks, seeds)
        pairs = zip(filled, examples, strict=True)
        return float(np.mean([psnr(in_mask_error(f, e.truth, e.mask)) for f, e in pairs]))

    assert mean_psnr("tiny") > mean_psnr("tiny-base")
