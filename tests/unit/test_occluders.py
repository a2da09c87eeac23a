"""What stands in front of an object is not continued behind itself; ground seen through a gap is of use."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textremove.inpaint.classical import ClassicalInpainter
from textremove.inpaint.crop import FillConfig, changeable
from textremove.inpaint.occluders import hide_occluders
from textremove.removal import fill_holes

SKY, COAT = (90, 160, 220), (190, 40, 60)


def umbrella(side: int = 256) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photo without the umbrella, its mask, and where the hooded woman is who holds it behind her."""
    rng = np.random.default_rng(0)
    truth = np.full((side, side, 3), SKY, np.uint8)
    unit = side // 16
    woman = np.zeros((side, side), np.uint8)
    cv2.circle(woman, (8 * unit, 6 * unit), 2 * unit, 255, -1)
    woman[8 * unit :, 6 * unit : 10 * unit] = 255
    truth[woman > 0] = COAT
    truth = np.clip(truth + rng.normal(0, 3, truth.shape), 0, 255).astype(np.uint8)
    mask = np.zeros_like(woman)
    cv2.ellipse(mask, (8 * unit, 6 * unit), (6 * unit, 4 * unit), 0, 0, 360, 255, -1)
    mask[woman > 0] = 0
    return truth, mask, woman > 0


def with_object(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None] > 0, np.array([230, 120, 200], np.uint8), truth)


class Counting(ClassicalInpainter):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        self.calls.append(len(images))
        return super().inpaint(images, masks, seeds)


class Whitewash(ClassicalInpainter):
    """Paints every hole as the lit wall is."""

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        return [
            np.where(mask[..., None] > 0, np.uint8(200), image)
            for image, mask in zip(images, masks, strict=True)
        ]


@pytest.mark.parametrize("side", [128, 256, 500])
def test_a_woman_is_not_continued_into_the_sky_behind_her(side: int) -> None:
    truth, mask, woman = umbrella(side)
    photo = with_object(truth, mask)
    off = {}
    for how in ("never", "auto"):
        config = FillConfig(occluders=how)
        result = fill_holes(ClassicalInpainter(), [photo], [mask], [0], config)[0]
        allowed = changeable(mask, resolution=512, config=config)
        assert np.array_equal(result[~allowed], photo[~allowed])
        # Where the hole was grown over her own edge, it is hers that is missing.
        sky = (mask > 0) & (cv2.dilate(woman.astype(np.uint8), np.ones((9, 9))) == 0)
        off[how] = np.abs(result.astype(int) - truth)[sky].max(axis=1)
    assert np.mean(off["never"] > 40) > 0.1
    assert np.mean(off["auto"] > 40) < 0.01


def test_she_is_hidden_whole_also_where_she_reaches_out_of_the_hull() -> None:
    truth, mask, woman = umbrella(128)
    (hidden,) = hide_occluders(ClassicalInpainter(), [with_object(truth, mask)], [mask], [0])
    assert (hidden[mask > 0] == 255).all()
    assert np.mean(hidden[woman] == 255) > 0.98
    assert np.mean(hidden[~woman & (mask == 0)] == 255) < 0.1


def test_ground_between_legs_stays_to_be_seen() -> None:
    rng = np.random.default_rng(0)
    meadow = np.clip(np.array([70, 120, 50]) + rng.normal(0, 20, (128, 128, 1)), 0, 255).astype(np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[40:60, 30:100] = 255
    for left in (30, 50, 70, 90):
        mask[60:90, left : left + 8] = 255
    (hidden,) = hide_occluders(ClassicalInpainter(), [with_object(meadow, mask)], [mask], [0])
    assert hidden is mask


@pytest.mark.parametrize(("width", "is_hidden"), [(2, False), (14, True)])
def test_a_bit_of_a_shadow_is_gone_on_with(width: int, is_hidden: bool) -> None:
    """The wheels of a skateboard leave a gap to its shadow on the wall."""
    photo = np.full((128, 128, 3), 200, np.uint8)
    photo[20:110, 60:80] = 90
    mask = np.zeros((128, 128), np.uint8)
    mask[20:110, 20:62] = 255
    for top in (34, 90):
        mask[top : top + 6, 62 : 62 + width] = 255
    (hidden,) = hide_occluders(Whitewash(), [photo], [mask], [0])
    assert (hidden is not mask) == is_hidden
    assert np.mean(hidden[40:90, 62:78] == 255) == is_hidden


def test_where_a_thing_would_be_nearly_all_only_its_part_in_the_gap_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thing that fills the picture is all that there is to continue."""

    def everything(_: np.ndarray, labels: np.ndarray, *__: object) -> None:
        labels[labels == cv2.GC_PR_BGD] = cv2.GC_PR_FGD

    monkeypatch.setattr(cv2, "grabCut", everything)
    truth, mask, woman = umbrella(128)
    (hidden,) = hide_occluders(ClassicalInpainter(), [with_object(truth, mask)], [mask], [0])
    assert np.mean(hidden[:60][woman[:60]] == 255) > 0.9
    assert np.mean(hidden == 0) > 0.5


def test_only_holes_with_gaps_are_filled_twice() -> None:
    truth, mask, _ = umbrella(128)
    disc = np.zeros_like(mask)
    cv2.circle(disc, (64, 64), 30, 255, -1)
    inpainter = Counting()
    fill_holes(inpainter, [truth, truth], [disc, mask], [0, 0], FillConfig())
    assert inpainter.calls == [1, 2]
    inpainter.calls.clear()
    fill_holes(inpainter, [truth], [mask], [0], FillConfig(occluders="never"))
    assert inpainter.calls == [1]
    inpainter.calls.clear()
    fill_holes(inpainter, [truth], [disc], [0], FillConfig())
    assert inpainter.calls == [1]


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    seed=st.integers(0, 1000),
    share=st.floats(0.02, 0.98),
    coarse=st.booleans(),
)
def test_any_picture_and_hole_gives_a_mask_with_the_hole_in_it(
    height: int, width: int, seed: int, share: float, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    cells = (3, 3) if coarse else (height, width)
    mask = np.where(rng.random(cells) < share, 255, 0).astype(np.uint8)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    (hidden,) = hide_occluders(ClassicalInpainter(), [photo], [mask], [0])
    assert (hidden.shape, hidden.dtype) == (mask.shape, np.uint8)
    assert set(np.unique(hidden)) <= {0, 255}
    assert (hidden[mask > 0] == 255).all()


def test_the_number_of_threads_makes_no_difference() -> None:
    truth, mask, _ = umbrella(256)
    photo = with_object(truth, mask)
    threads = cv2.getNumThreads()
    try:
        found = []
        for count in (1, 2, 4):
            cv2.setNumThreads(count)
            cv2.setRNGSeed(count)  # whatever was drawn before
            found += hide_occluders(ClassicalInpainter(), [photo], [mask], [0])
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(hidden, found[0]) for hidden in found)
