"""Which segmenters an evaluation scores, and what each is called in its results."""

from __future__ import annotations

from collections.abc import Sequence

from textremove.errors import ConfigError
from textremove.onray.models import absolute
from textremove.onray.scorer import LOCATION_PRIOR
from textremove.segment.members import parts_of


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
    paths = [absolute(source) for source in sources]
    for source, path in zip(sources, paths, strict=True):
        if paths.count(path) > 1:
            raise ConfigError(f"--segmenter names {source} twice; name each once")
    parts = [1] * len(paths)
    while True:
        names = [_last(path, count) for path, count in zip(paths, parts, strict=True)]
        unclear = [
            k
            for k, name in enumerate(names)
            if (names.count(name) > 1 or name == LOCATION_PRIOR) and name != paths[k]
        ]
        if not unclear:
            return dict(zip(names, paths, strict=True))
        for k in unclear:
            parts[k] += 1


def _last(source: str, count: int) -> str:
    parts = parts_of(source)
    if len(parts) > 1:
        return "+".join(_last(part, count) for part in parts)
    kept = source.split("/")[-count:]
    return "/".join(kept) if len(kept) == count else source
