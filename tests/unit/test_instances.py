"""Which of several found objects a prompt means: on objects whose places are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from textremove.places import PLACES, distance_to_place, flip_place, place_of_box
from textremove.segment.instances import (
    REACH,
    Instance,
    Request,
    choose,
    distinct,
    parse_request,
    place_fit,
    segmentation_from_instances,
)

SIDE = 96  # pixels of a photo; of the masks too, so that what is chosen can be compared pixel by pixel

# Where one object of each place stands: its centre in fractions of width and height.
CENTRES = {
    "center": (0.5, 0.5),
    "left": (0.12, 0.5),
    "right": (0.88, 0.5),
    "top": (0.5, 0.12),
    "bottom": (0.5, 0.88),
    "top left": (0.15, 0.15),
    "top right": (0.85, 0.15),
    "bottom left": (0.15, 0.85),
    "bottom right": (0.85, 0.85),
    "center left": (0.29, 0.5),
    "center right": (0.71, 0.5),
    "center top": (0.5, 0.29),
    "center bottom": (0.5, 0.71),
}


def instance(x: float, y: float, *, score: float = 0.8, size: float = 0.1) -> Instance:
    box = (x - size / 2, y - size / 2, x + size / 2, y + size / 2)
    left, top, right, bottom = (round(edge * SIDE) for edge in box)
    probability = np.zeros((SIDE, SIDE), np.float32)
    probability[top:bottom, left:right] = 0.9
    return Instance(box=box, probability=probability, score=score)


def centre(one: Instance) -> tuple[float, float]:
    left, top, right, bottom = one.box
    return round((left + right) / 2, 2), round((top + bottom) / 2, 2)


def mirrored(one: Instance) -> Instance:
    left, top, right, bottom = one.box
    box = (1 - right, top, 1 - left, bottom)
    return Instance(box=box, probability=one.probability[:, ::-1], score=one.score)


def chosen_centres(instances: list[Instance], prompt: str) -> list[tuple[float, float]]:
    return [centre(one) for one in choose(instances, parse_request(prompt))[0]]


EVERYWHERE = [instance(*CENTRES[place]) for place in PLACES]


def test_the_centres_of_this_file_are_what_the_naming_rule_calls_them() -> None:
    for place, one in zip(PLACES, EVERYWHERE, strict=True):
        assert place_of_box(one.box, height=1, width=1) == place


@pytest.mark.parametrize("place", PLACES)
def test_of_one_at_every_place_the_one_at_the_named_place_is_meant(place: str) -> None:
    assert chosen_centres(EVERYWHERE, f"ball at the {place}") == [CENTRES[place]]


@pytest.mark.parametrize("place", PLACES)
def test_a_mirrored_photo_and_prompt_mean_the_mirrored_one(place: str) -> None:
    some = [instance(0.2, 0.5), instance(0.8, 0.6, score=0.6), instance(0.45, 0.25), instance(0.6, 0.9)]
    prompt = f"ball at the {place}"
    there = choose(some, parse_request(prompt))
    mirror = choose([mirrored(one) for one in some], parse_request(flip_place(prompt)))
    assert [centre(mirrored(one)) for one in mirror[0]] == [centre(one) for one in there[0]]
    assert mirror[1] == pytest.approx(there[1])


def test_the_place_outweighs_confidence_and_confidence_decides_at_one_place() -> None:
    left, right = instance(0.15, 0.5, score=0.4), instance(0.85, 0.5, score=0.95)
    assert chosen_centres([right, left], "ball at the left") == [centre(left)]
    sure, unsure = instance(0.1, 0.5, score=0.9), instance(0.2, 0.55, score=0.5)
    assert chosen_centres([unsure, sure], "ball at the left") == [centre(sure)]
    assert choose([unsure, sure], parse_request("ball at the left"))[1] == pytest.approx(0.9)


def test_neighbouring_places_are_near_and_far_ones_are_not_found() -> None:
    # "left" and "center left" are neighbours: the only ball, a little off, is meant all the same.
    assert chosen_centres([instance(*CENTRES["center left"])], "ball at the left") == [CENTRES["center left"]]
    # ... and a corner is nearer to a side than the middle is.
    assert chosen_centres([instance(*CENTRES["top left"])], "ball at the left") == [CENTRES["top left"]]
    for far in ("center", "right", "center right", "top right", "top", "bottom"):
        one = instance(*CENTRES[far])
        chosen, score = choose([one], parse_request("ball at the left"))
        assert (chosen, score) == ([], 0.0), far
        answer = segmentation_from_instances([one], parse_request("ball at the left"), height=40, width=60)
        assert not answer.found
        assert not answer.mask.any()
        assert answer.mask.shape == (40, 60)


def test_nothing_found_is_not_found() -> None:
    answer = segmentation_from_instances([], parse_request("balls"), height=5, width=7)
    assert (answer.found, answer.score, answer.mask.shape) == (False, 0.0, (5, 7))


def test_a_plural_means_all_that_fit_and_no_place_means_anywhere() -> None:
    lefts = [instance(0.1, 0.4, score=0.5), instance(0.25, 0.6, score=0.9)]
    right = instance(0.9, 0.5, score=0.99)
    assert sorted(chosen_centres([*lefts, right], "balls at the left")) == sorted(map(centre, lefts))
    assert chosen_centres([*lefts, right], "ball") == [centre(right)]
    assert len(chosen_centres([*lefts, right], "balls")) == 3


def test_the_mask_is_the_chosen_pixels_at_the_photo_s_size() -> None:
    left, other, right = instance(0.1, 0.5), instance(0.25, 0.3), instance(0.9, 0.5)
    answer = segmentation_from_instances(
        [right, left, other], parse_request("balls at the left"), height=SIDE, width=SIDE
    )
    both = np.maximum(left.probability, other.probability) > 0.5
    assert np.array_equal(answer.mask, np.where(both, 255, 0))  # and not the box around the two
    assert answer.mask.dtype == np.uint8
    large = segmentation_from_instances([right], parse_request("ball"), height=2 * SIDE, width=3 * SIDE)
    rows, columns = np.nonzero(large.mask)
    assert large.mask.shape == (2 * SIDE, 3 * SIDE)
    assert (columns.mean() / (3 * SIDE), rows.mean() / (2 * SIDE)) == pytest.approx((0.9, 0.5), abs=0.01)


def test_one_object_found_twice_counts_once_and_the_surer_find_stays() -> None:
    once, again = instance(0.3, 0.3, score=0.9), instance(0.31, 0.31, score=0.7)
    assert distinct([again, once]) == [once]
    assert len(choose([again, once], parse_request("balls"))[0]) == 1
    beside = instance(0.42, 0.3, score=0.5)
    assert distinct([beside, once]) == [once, beside]


def test_a_group_found_beside_its_members_is_not_an_object() -> None:
    members = [instance(0.4, 0.5, score=0.5), instance(0.6, 0.5, score=0.5)]
    group = instance(0.5, 0.5, score=0.9, size=0.34)
    assert distinct([group, *members]) == members
    # A large thing with one small thing on it is two things.
    assert distinct([group, members[0]]) == [group, members[0]]


def test_an_empty_mask_is_nothing() -> None:
    nothing = Instance(box=(0.1, 0.1, 0.2, 0.2), probability=np.zeros((4, 4), np.float32), score=0.9)
    assert distinct([nothing]) == []


@pytest.mark.parametrize(
    ("prompt", "what", "place"),
    [
        ("person at the left", "person", "left"),
        ("person at the left top", "person", "top left"),
        ("dog on the left side", "dog", "left"),
        ("dog in the upper right corner of the photo", "dog", "top right"),
        ("dog in the middle", "dog", "center"),
        ("dog at the center-left", "dog", "center left"),
        ("person", "person", ""),
        ("cup on the table", "cup on the table", ""),
        ("cup on the table at the bottom", "cup on the table", "bottom"),
        ("man at the beach", "man at the beach", ""),
        ("left shoe", "left shoe", ""),
    ],
)
def test_a_prompt_is_taken_apart(prompt: str, what: str, place: str) -> None:
    assert parse_request(prompt) == Request(what=what, place=place, plural=False)


def test_every_place_of_pipe_is_understood() -> None:
    for place in PLACES:
        assert parse_request(f"tv at the {place}") == Request(what="tv", place=place, plural=False)


@pytest.mark.parametrize(
    ("words", "plural"),
    [
        ("people, dogs, children, men, geese, boxes, knives, tvs, skis, pizzas, zebras, cattle", True),
        ("person, dog, bus, lens, cactus, tennis, iris, glass, dress, tv, scissors, sheep, fish", False),
        ("dogs with a ball, two people on the bench, men in red, wine bottles", True),
        ("dog with two balls, pair of scissors, group of people, glasses, bus stop", False),
    ],
)
def test_a_plural_is_told_from_a_singular(words: str, plural: bool) -> None:
    told = {word: parse_request(word).plural for word in words.split(", ")}
    assert told == dict.fromkeys(told, plural)


def test_the_distance_is_zero_where_the_naming_rule_says_so_and_nowhere_else() -> None:
    rng = np.random.default_rng(0)
    for x, y in rng.random((500, 2)):
        box = (x - 0.05, y - 0.05, x + 0.05, y + 0.05)
        named = place_of_box(box, height=1, width=1)
        for place in PLACES:
            distance = distance_to_place(box, place, height=1.0, width=1.0)
            assert (distance == 0) == (place == named), (box, place, named)


def test_fit_falls_with_distance_and_ends() -> None:
    fits = [place_fit((x - 0.1, 0.4, x + 0.1, 0.6), "left") for x in (0.2, 0.3, 0.35, 0.4, 0.45, 0.5)]
    assert fits[0] == 1.0
    assert fits == sorted(fits, reverse=True)
    assert fits[3] == pytest.approx(math.exp(-2 * (0.15 / REACH) ** 2))
    assert fits[4:] == [0.0, 0.0]
    assert place_fit((0, 0, 1, 1), "") == 1.0
