from __future__ import annotations

import pytest

from textremove.errors import PromptError
from textremove.pipe.prompts import refine_prompt


@pytest.mark.parametrize(
    ("instruction", "location", "prompt", "object_class", "place"),
    [
        ("add a person", " at the left", "person at the left", "person", "left"),
        ("Add a Person", " at the top left", "person at the top left", "person", "top left"),
        ("add an umbrella", " at the center", "umbrella at the center", "umbrella", "center"),
        (
            "  add\t the   potted  plant. ",
            "  at  the bottom ",
            "potted plant at the bottom",
            "potted plant",
            "bottom",
        ),
        ("add some bananas", "", "bananas", "bananas", ""),
        ("add a tv", None, "tv", "tv", ""),
        ("stars", "top", "stars at the top", "stars", "top"),
        ("add a theater", " at the right", "theater at the right", "theater", "right"),
        ("add an apple a day", " at the right", "apple a day at the right", "apple a day", "right"),
        ("address label", " at the right", "address label at the right", "address label", "right"),
    ],
)
def test_an_instruction_becomes_a_phrase(
    instruction: str, location: str | None, prompt: str, object_class: str, place: str
) -> None:
    refined = refine_prompt(instruction, location)
    assert (refined.prompt, refined.object_class, refined.place) == (prompt, object_class, place)


@pytest.mark.parametrize(
    "instruction", [None, "", "add", "add ", " ADD A ", "add the", "x", "add a ?", "..."]
)
def test_what_names_nothing_is_rejected_even_with_a_place(instruction: str | None) -> None:
    with pytest.raises(PromptError):
        refine_prompt(instruction, " at the left")


def test_refining_a_refined_class_changes_nothing() -> None:
    once = refine_prompt("Add a  Hot Dog", " at the Top Right")
    again = refine_prompt(once.object_class, f" at the {once.place}")
    assert again == once
