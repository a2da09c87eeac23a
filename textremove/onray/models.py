"""What batch and Serve share in running models in other processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def absolute(name: str) -> str:
    """Makes a model's folder absolute, since workers may run elsewhere; presets and hub ids stay."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


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
