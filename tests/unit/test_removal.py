"""Cutting holes out, pasting them back, and the Remover around it, with models that are plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textremove.errors import ConfigError, PromptError
from textremove.inpaint.classical import ClassicalInpainter
from textremove.inpaint.crop import FillConfig, feathered_alpha, open_hole
from textremove.inpaint.masks import dilate, random_mask
from textremove.inpaint.window import choose_window
from textremove.removal import Remover, clean_prompt, fill_holes
from textremove.segment.protocol import Segmentation


class PaintItRed:
    """An inpainter that returns pure red everywhere, so that what is pasted back shows."""

    resolution = 64
    multiple = 8
    textured = True

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        assert all(
            image.shape == (64, 64, 3) and mask.shape == (64, 64)
            for image, mask in zip(images, masks, strict=True)
        )
        return [np.full_like(image, (255, 0, 0)) for image in images]


AS_PAINTED = FillConfig(match_colours=False)
"""Red everywhere is a shift that the surroundings show: the colour match would take it out again."""


class FindTheTopLeft:
    """A segmenter that finds a square at the top left, or nothing when asked for a ghost."""

    def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
        results = []
        for image, prompt in zip(images, prompts, strict=True):
            mask = np.zeros(image.shape[:2], np.uint8)
            if "ghost" not in prompt:
                mask[4:20, 4:20] = 255
            results.append(Segmentation(mask=mask, raw=mask, score=0.9, found=bool(mask.any())))
        return results


def _photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def _box_mask(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 255
    return mask


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(9, 300),
    width=st.integers(9, 300),
    left=st.floats(0, 0.9),
    top=st.floats(0, 0.9),
    extent=st.floats(0.02, 0.9),
)
def test_outside_the_feathered_mask_no_bit_changes_and_inside_all_is_filled(
    height: int, width: int, left: float, top: float, extent: float
) -> None:
    photo = _photo(height, width)
    x, y = int(left * width), int(top * height)
    mask = _box_mask(height, width, (x, y, x + max(1, int(extent * width)), y + max(1, int(extent * height))))
    result = fill_holes(PaintItRed(), [photo], [mask], [0], AS_PAINTED)[0]
    hole = open_hole(mask, resolution=64, config=FillConfig())
    outside = feathered_alpha(hole.mask, hole.feather) == 0
    window = hole.window
    inside_window = np.zeros_like(outside)
    inside_window[
        max(window.top, 0) : window.top + window.side, max(window.left, 0) : window.left + window.side
    ] = True
    assert np.array_equal(result[outside | ~inside_window], photo[outside | ~inside_window])
    assert np.all(result[(mask > 0) & inside_window] == (255, 0, 0))
    assert np.all(inside_window[mask > 0]), "the window must cover the whole mask"


def test_the_window_is_not_upscaled_and_shows_context() -> None:
    small = choose_window((500, 500, 520, 520), (1000, 1000), resolution=128, context=2.0)
    assert small.side == 128
    large = choose_window((300, 300, 600, 500), (1000, 1000), resolution=128, context=2.0)
    assert large.side == 600
    corner = choose_window((0, 980, 20, 1000), (1000, 1000), resolution=128, context=2.0)
    assert (corner.left, corner.top) == (0, 872)


def test_a_photo_smaller_than_the_model_or_a_panorama_is_filled_at_its_own_size() -> None:
    for height, width in ((20, 30), (40, 900), (700, 33)):
        photo = _photo(height, width)
        mask = _box_mask(height, width, (width // 2 - 3, height // 2 - 3, width // 2 + 3, height // 2 + 3))
        result = fill_holes(PaintItRed(), [photo], [mask], [0], AS_PAINTED)[0]
        assert result.shape == photo.shape
        assert np.all(result[mask > 0] == (255, 0, 0))


def test_an_empty_mask_gives_an_equal_copy() -> None:
    photo = _photo(50, 60)
    result = fill_holes(PaintItRed(), [photo], [np.zeros((50, 60), np.uint8)], [0])[0]
    assert np.array_equal(result, photo)
    assert result is not photo


def test_a_mask_of_another_size_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="the mask is 60x51 pixels, the image 60x50"):
        fill_holes(PaintItRed(), [_photo(50, 60)], [np.zeros((51, 60), np.uint8)], [0])


def test_remove_finds_and_fills_and_says_what_it_did() -> None:
    photo = _photo(80, 90)
    removal = Remover(FindTheTopLeft(), PaintItRed(), AS_PAINTED).remove(
        photo, "Remove the ball at the top left."
    )
    assert removal.found
    assert removal.score == pytest.approx(0.9)
    assert np.all(removal.image[4:20, 4:20] == (255, 0, 0))
    assert np.array_equal(removal.image[40:, 40:], photo[40:, 40:])
    assert set(removal.seconds) == {"segment", "inpaint", "verify"}


def test_nothing_found_gives_the_photo_back_and_says_so() -> None:
    photo = _photo(80, 90)
    removal = Remover(FindTheTopLeft(), PaintItRed(), AS_PAINTED).remove(photo, "ghost at the left")
    assert not removal.found
    assert np.array_equal(removal.image, photo)


def test_a_given_mask_is_used_and_nothing_is_segmented() -> None:
    class MustNotBeAsked:
        def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
            raise AssertionError("segmented although a mask was given")

    photo, mask = _photo(80, 90), _box_mask(80, 90, (60, 60, 70, 70))
    removal = Remover(MustNotBeAsked(), PaintItRed(), AS_PAINTED).remove(photo, "", mask=mask)
    assert removal.found
    assert np.all(removal.image[60:70, 60:70] == (255, 0, 0))


@pytest.mark.parametrize("prompt", ["", "   ", "the", "remove", "!!", "Remove the ."])
def test_an_empty_prompt_is_one_clear_line(prompt: str) -> None:
    with pytest.raises(PromptError, match="prompt is empty"):
        clean_prompt(prompt)


@pytest.mark.parametrize(
    ("typed", "cleaned"),
    [
        ("ball at the left", "ball at the left"),
        ("  Remove   the Ball at the LEFT. ", "ball at the left"),
        ("please erase a red car", "red car"),
        ("an apple", "apple"),
        ("theatre at the right", "theatre at the right"),
        ("removed tile at the top", "removed tile at the top"),
    ],
)
def test_prompts_are_cleaned(typed: str, cleaned: str) -> None:
    assert clean_prompt(typed) == cleaned


@pytest.mark.parametrize("method", ["telea", "navier-stokes"])
def test_classical_filling_continues_a_gradient(method: str) -> None:
    ramp = np.repeat(np.linspace(50, 200, 96).astype(np.uint8)[None, :, None], 96, axis=0).repeat(3, axis=2)
    mask = _box_mask(96, 96, (40, 40, 56, 56))
    broken = ramp.copy()
    broken[mask > 0] = (255, 0, 255)
    result = fill_holes(ClassicalInpainter(method), [broken], [mask], [0])[0]
    assert np.abs(result[mask > 0].astype(int) - ramp[mask > 0]).mean() < 6


def test_an_unknown_classical_method_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="telea, navier-stokes"):
        ClassicalInpainter("magic")


def test_dilation_grows_by_pixels_all_around() -> None:
    mask = _box_mask(40, 40, (18, 18, 20, 20))
    grown = dilate(mask, 5)
    assert grown[18, 18 - 5] == grown[18, 19 + 5] == grown[13, 18] == 255
    assert grown[18, 18 - 6] == grown[12, 18] == 0
    assert dilate(mask, 0) is mask


def test_random_masks_cover_a_part() -> None:
    rng = np.random.default_rng(0)
    shares = [(random_mask(rng, 64) > 0).mean() for _ in range(200)]
    assert 0.02 < np.mean(shares) < 0.4
    centred = [random_mask(rng, 64, center=(32, 32))[30:35, 30:35].any() for _ in range(50)]
    assert all(centred)
