"""Which segmenters an evaluation scores, and what each is called in its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textremove.errors import ConfigError
from textremove.onray.scorer import LOCATION_PRIOR
from textremove.presets import INPAINTERS, SEGMENTERS

_PAIR = "+"


def named_segmenters(sources: Sequence[str]) -> dict[str, str]:
    """What each segmenter is called in the results, and where it is loaded from, folders in full.

    Of a folder or a hub id the last part of its name is enough, and as many more as keep two apart:
    "runs/a/segmenter" is "segmenter", or "a/segmenter" beside "runs/b/segmenter". A pair "A+B" is called
    by both names.

    Args:
        sources: As `load_segmenter` takes them.

    Raises:
        ConfigError: The same one twice.
    """
    absolute = [_absolute(source) for source in sources]
    for source, path in zip(sources, absolute, strict=True):
        if absolute.count(path) > 1:
            raise ConfigError(f"--segmenter names {source} twice; name each once")
    parts = [1] * len(absolute)
    while True:
        names = [_last(path, count) for path, count in zip(absolute, parts, strict=True)]
        unclear = [
            k
            for k, name in enumerate(names)
            if (names.count(name) > 1 or name == LOCATION_PRIOR) and name != absolute[k]
        ]
        if not unclear:
            return dict(zip(names, absolute, strict=True))
        for k in unclear:
            parts[k] += 1


def _absolute(source: str) -> str:
    """The same model by a name that holds in any folder: workers start in others."""
    if source in (*SEGMENTERS, *INPAINTERS):  # a preset, also where a folder is called the same
        return source
    if Path(source).is_dir():
        return str(Path(source).resolve())
    if _PAIR in source:
        return _PAIR.join(map(_absolute, source.split(_PAIR, 1)))
    return source


def _last(source: str, count: int) -> str:
    if _PAIR in source and not Path(source).is_dir():
        return _PAIR.join(_last(part, count) for part in source.split(_PAIR, 1))
    kept = source.split("/")[-count:]
    return "/".join(kept) if len(kept) == count else source
