"""Trying until it is gone: what counts as found again, how often is filled, and which filling is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from textremove.attempts import (
    FillCall,
    Filled,
    RemovalConfig,
    advance,
    fill_in_attempts,
    most_typical,
    still_there,
)
from textremove.errors import ConfigError
from textremove.inpaint.crop import FillConfig
from textremove.removal import Remover, answer_calls, run_side_by_side
from textremove.segment.protocol import Segmentation

PLAIN = FillConfig(match_colours=False, dilation=0)
GREY = np.full((64, 64, 3), 128, np.uint8)


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((64, 64), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


HOLE = box(16, 16, 36, 36)


def seen(*parts: np.ndarray, score: float = 0.7) -> Segmentation:
    raw = np.bitwise_or.reduce(parts) if parts else np.zeros((64, 64), np.uint8)
    return Segmentation(mask=raw, raw=raw, score=score, found=bool(raw.any()))


@pytest.mark.parametrize(
    ("parts", "there"),
    [
        ([], False),
        ([HOLE], True),
        ([box(20, 20, 28, 28)], True),  # a smaller one was painted
        ([box(10, 10, 44, 44)], True),  # a larger one
        ([box(26, 16, 46, 36)], True),  # half out of the hole
        ([box(44, 44, 60, 60)], False),  # the twin elsewhere
        ([box(32, 16, 52, 36)], False),  # a neighbour that the hole grazes
        ([box(44, 40, 64, 64), box(20, 20, 28, 28)], True),  # a twin, and a new one where it was
        ([box(20, 20, 23, 23)], False),  # a speck
    ],
)
def test_found_again_means_where_it_was(parts: list[np.ndarray], there: bool) -> None:
    assert still_there(seen(*parts), HOLE) == (0.7 if there else 0.0)


def test_an_unsure_sight_still_counts() -> None:
    assert still_there(seen(HOLE, score=0.0), HOLE) > 0


class PaintSeed:
    """An inpainter whose filling is the seed; it remembers what it was asked."""

    resolution = 64
    multiple = 1
    textured = True

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        self.asked += [(seed, int((mask > 0).sum())) for mask, seed in zip(masks, seeds, strict=True)]
        return [np.full_like(image, seed % 251) for image, seed in zip(images, seeds, strict=True)]


class SeeUntil:
    """A segmenter that finds the hole in grey photos, and again in fillings by their seed."""

    def __init__(self, scores: dict[int, float]) -> None:
        self.scores = scores

    def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
        results = []
        for image in images:
            score = self.scores.get(int(image[26, 26, 0]), 0.0)
            results.append(seen(HOLE, score=score) if score else seen())
        return results


def fill(
    scores: dict[int, float], *, prompt: str | None = "ball", seed: int = 10, **config: object
) -> tuple[Filled, PaintSeed]:
    inpainter = PaintSeed()
    steps = fill_in_attempts(GREY, HOLE, prompt, seed=seed, config=RemovalConfig(**config))
    (filled,) = run_side_by_side([steps], lambda c: answer_calls(c, SeeUntil(scores), inpainter, PLAIN))
    assert isinstance(filled, Filled)
    return filled, inpainter


def test_gone_at_once_is_one_filling_of_the_seed_and_the_mask_as_they_are() -> None:
    filled, inpainter = fill({})
    assert inpainter.asked == [(10, 400)]
    assert (filled.verified, filled.verify_score, filled.seed) == (True, 0.0, 10)
    assert filled.image[26, 26, 0] == 10
    assert [(a.growth, a.seeds, a.scores) for a in filled.attempts] == [(0, (10,), (0.0,))]


def test_it_goes_on_with_larger_masks_and_other_seeds_until_it_is_gone() -> None:
    filled, inpainter = fill({10: 0.9, 11: 0.8}, attempts=5, growth=0.2)
    assert [seed for seed, _ in inpainter.asked] == [10, 11, 12]
    areas = [area for _, area in inpainter.asked]
    assert areas == sorted(set(areas))
    assert [a.growth for a in filled.attempts] == [0, 4, 8]  # a fifth of the root of 400 more each time
    assert (filled.verified, filled.seed, filled.image[26, 26, 0]) == (True, 12, 12)


def test_at_the_limit_the_least_convincing_one_is_kept_and_called_not_verified() -> None:
    filled, inpainter = fill({10: 0.9, 11: 0.4, 12: 0.8}, attempts=3)
    assert len(inpainter.asked) == 3
    assert (filled.verified, filled.verify_score, filled.seed) == (False, 0.4, 11)
    assert filled.image[26, 26, 0] == 11
    assert [a.scores for a in filled.attempts] == [(0.9,), (0.4,), (0.8,)]


def test_among_samples_those_that_are_gone_come_first_and_then_the_most_typical() -> None:
    filled, inpainter = fill({10: 0.9, 11: 0.5}, samples=4)
    assert [seed for seed, _ in inpainter.asked] == [10, 11, 12, 13]
    assert filled.seed in (12, 13)
    assert filled.verified
    again, inpainter = fill({seed: 0.9 - seed / 100 for seed in range(10, 14)}, samples=4, attempts=1)
    assert (again.verified, again.seed) == (False, 13)


@pytest.mark.parametrize(("prompt", "verify"), [(None, True), ("ball", False)])
def test_without_a_prompt_or_the_wish_nothing_is_verified(prompt: str | None, verify: bool) -> None:
    filled, inpainter = fill({10: 0.9}, prompt=prompt, verify=verify, samples=3)
    assert (filled.verified, filled.verify_score) == (None, None)
    assert filled.seed == 11  # the one in the middle is the most typical
    assert len(inpainter.asked) == 3
    assert set(filled.seconds) == {"inpaint"}


def test_seeds_at_the_end_of_their_range_begin_again() -> None:
    filled, _ = fill({}, seed=2**63 - 1, samples=2)
    assert filled.attempts[0].seeds == (2**63 - 1, 0)


def test_the_most_typical_filling_is_the_one_nearest_to_all() -> None:
    fillings = [np.full_like(GREY, level) for level in (10, 200, 90, 100, 110)]
    assert most_typical(fillings, HOLE) == 3
    outside = GREY.copy()
    outside[0, 0] = 255
    assert most_typical([outside, GREY, GREY], HOLE) == 0  # what is not in the hole makes no difference


def test_side_by_side_the_models_see_all_at_once_and_one_failure_is_its_own() -> None:
    rounds: list[list[type]] = []

    def answer(calls: Sequence[object]) -> list[object]:
        rounds.append([type(call) for call in calls])
        return [
            RuntimeError("broken")
            if isinstance(call, FillCall) and call.seed == 7
            else answer_calls([call], SeeUntil({1: 0.5}), PaintSeed(), PLAIN)[0]
            for call in calls
        ]

    runs = [fill_in_attempts(GREY, HOLE, "ball", seed=s, config=RemovalConfig()) for s in (1, 7, 30)]
    first, broken, last = run_side_by_side(runs, answer)
    assert [len(calls) for calls in rounds] == [3, 2, 1, 1]
    assert isinstance(broken, RuntimeError)
    assert isinstance(first, Filled)
    assert isinstance(last, Filled)
    assert (first.seed, last.seed) == (2, 30)
    assert len(first.attempts) == 2
    assert run_side_by_side([], answer) == []


def test_steps_can_be_taken_one_by_one() -> None:
    steps = fill_in_attempts(GREY, HOLE, None, seed=0, config=RemovalConfig())
    (call,) = advance(steps, None)
    assert isinstance(call, FillCall)
    assert isinstance(advance(steps, [GREY]), Filled)


def test_the_remover_tells_what_was_done() -> None:
    remover = Remover(SeeUntil({128: 0.8, 5: 0.6}), PaintSeed(), PLAIN, RemovalConfig(attempts=2))
    removal = remover.remove(GREY, "ball", seed=5)
    assert (removal.found, removal.verified, removal.kept_seed) == (True, True, 6)
    assert [a.seeds for a in removal.attempts] == [(5,), (6,)]
    assert set(removal.seconds) == {"segment", "inpaint", "verify"}
    with_mask = remover.remove(GREY, "the ball", mask=HOLE, seed=5)
    assert with_mask.verified
    assert np.array_equal(with_mask.image, removal.image)
    assert remover.remove(GREY, "", mask=HOLE, seed=5).verified is None


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"attempts": 0}, r"--attempts must lie in \[1, 8\], not 0"),
        ({"samples": 9}, r"--samples must lie in \[1, 8\], not 9"),
        ({"growth": -0.1}, r"--growth must lie in \[0, 1\], not -0.1"),
    ],
)
def test_numbers_out_of_range_are_one_line(wrong: dict[str, float], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        RemovalConfig(**wrong)
