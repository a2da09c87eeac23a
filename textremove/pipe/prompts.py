"""Refining PIPE's instructions into prompts (paper section 4.1): "person at the left"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from textremove.errors import PromptError

MIN_CLASS_LETTERS = 2
"""A class with fewer letters or digits names nothing. Two, because "tv" is a class of COCO."""

_LEADING_VERB = re.compile(r"^add(?:\s+|$)")
_LEADING_ARTICLES = re.compile(r"^(?:(?:an?|the|some)(?:\s+|$))+")
_LEADING_PREPOSITION = re.compile(r"^(?:(?:at|in|on|to)(?:\s+|$))?(?:the(?:\s+|$))?")
_EDGE_PUNCTUATION = " .,;:!?\"'"


@dataclass(frozen=True, kw_only=True)
class RefinedPrompt:
    """What a removal prompt says.

    Attributes:
        prompt: The whole phrase, lower case: "person at the left", or "person" when no place is named.
        object_class: What is to be removed: "person".
        place: Where it is: "left"; empty when the row names no place.
    """

    prompt: str
    object_class: str
    place: str


def refine_prompt(instruction_class: str | None, object_location: str | None) -> RefinedPrompt:
    """Turns an instruction to add something into the phrase that names it.

    Args:
        instruction_class: PIPE's `Instruction_Class`, such as "add a person".
        object_location: PIPE's `object_location`, such as " at the left"; may be empty.

    Returns:
        The refined phrase and its two parts.

    Raises:
        PromptError: Nothing that names an object is left after cleaning.
    """
    object_class = _clean(instruction_class)
    object_class = _LEADING_VERB.sub("", object_class)
    object_class = _LEADING_ARTICLES.sub("", object_class)
    if sum(character.isalnum() for character in object_class) < MIN_CLASS_LETTERS:
        raise PromptError(f"the prompt {instruction_class!r} names no object; say what, as in 'add a person'")
    place = _LEADING_PREPOSITION.sub("", _clean(object_location))
    prompt = f"{object_class} at the {place}" if place else object_class
    return RefinedPrompt(prompt=prompt, object_class=object_class, place=place)


def _clean(text: str | None) -> str:
    return " ".join((text or "").lower().split()).strip(_EDGE_PUNCTUATION)
