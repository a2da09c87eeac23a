from __future__ import annotations

import pytest

from textremove.groups import GROUPS, class_group, place_group, size_group


@pytest.mark.parametrize(
    ("object_class", "group"),
    [
        ("person", "human"), ("People", "human"), ("young women", "human"), ("man with a dog", "human"),
        ("group of people", "human"), ("babies", "human"), ("children", "human"), ("boy with kite", "human"),
        ("dog", "not human"), ("baby carriage", "not human"), ("man's hat", "not human"),
        ("dog near a man", "not human"), ("teddy bear", "not human"), ("", "not human"), ("пёс", "not human"),
    ],
)  # fmt: skip
def test_a_class_is_human_by_its_main_word(object_class: str, group: str) -> None:
    assert class_group(object_class) == group


def test_sizes_have_their_lower_end_in_them() -> None:
    assert [size_group(share) for share in (0.0, 0.0299, 0.03, 0.0999, 0.1, 1.0)] == [
        "small", "small", "medium", "medium", "large", "large",
    ]  # fmt: skip


def test_unknown_places_do_not_make_a_group_each() -> None:
    assert place_group("top left") == "top left"
    assert place_group("на столе") == place_group("beside the car") == "other words"
    assert place_group("") == "no place named"
    assert {place_group(place) for place in ("center", "x", "")} <= set(GROUPS["place_group"])
