"""What batch and Serve share in running models in other processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from textremove.presets import INPAINTERS, SEGMENTERS
from textremove.segment.members import parts_of

Item = TypeVar("Item")
Result = TypeVar("Result")


def absolute(name: str) -> str:
    """Makes a model's folder, or both of a pair, absolute, since workers may run elsewhere.

    Presets stay as they are, also where a folder is called the same, and so do hub ids.
    """
    if name in (*SEGMENTERS, *INPAINTERS):
        return name
    return "+".join(str(Path(part).resolve()) if Path(part).is_dir() else part for part in parts_of(name))


def each_or_error(
    call: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | Exception]:
    """Calls once for all items; when that fails, once for each, so that one bad item harms no other."""
    if not items:
        return []
    try:
        return list(call(items))
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [each_or_error(call, [item])[0] for item in items]
