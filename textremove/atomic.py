"""Files and folders that appear under their final name whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textremove.errors import ConfigError


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Gives a name to write a file to, and moves it to its final name when the block ends well.

    Whatever ends the block otherwise, Ctrl-C included, removes what was written; a file that was
    there before stays as it was.

    Args:
        path: The final name. Missing folders above it are made.

    Yields:
        A name beside it with the same suffix; some libraries go by that.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f"{final.stem}.partial-{os.getpid()}{final.suffix}")
    try:
        yield partial
        os.replace(partial, final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_dir(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Gives an empty folder to fill, and moves it to its final name when the block ends well.

    Whatever ends the block otherwise, Ctrl-C included, removes it; with `overwrite` the folder that
    was there before is removed only once the new one is complete.

    Args:
        path: The final name. Missing folders above it are made.
        overwrite: Whether a folder that is there and not empty may be replaced.

    Yields:
        An empty folder beside it.

    Raises:
        ConfigError: Something is there already, and `overwrite` was not asked for.
    """
    final = Path(path)
    if final.exists() and not final.is_dir():
        raise ConfigError(f"{final} is a file; give the name of a folder")
    if final.is_dir() and any(final.iterdir()) and not overwrite:
        raise ConfigError(f"{final} is there already and not empty; give another name or --overwrite")
    partial = final.with_name(f"{final.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        replace_folder(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_folder(complete: Path, final: Path) -> None:
    """Moves a complete folder to its final name beside it; one that was there is removed only then."""
    replaced = final.with_name(f"{final.name}.replaced-{os.getpid()}")
    try:
        if final.is_dir():
            os.replace(final, replaced)
        os.replace(complete, final)
    except BaseException:
        if replaced.is_dir() and not final.exists():
            os.replace(replaced, final)
        raise
    finally:
        shutil.rmtree(replaced, ignore_errors=True)
