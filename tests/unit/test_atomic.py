from __future__ import annotations

from pathlib import Path

import pytest

from textremove.atomic import atomic_dir, atomic_file
from textremove.errors import ConfigError


def test_a_file_appears_whole_under_its_name(tmp_path: Path) -> None:
    final = tmp_path / "new" / "a.png"
    with atomic_file(final) as partial:
        partial.write_text("half")
        assert not final.exists()
        assert partial.suffix == ".png"
    assert final.read_text() == "half"
    assert list(final.parent.iterdir()) == [final]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_file_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    final = tmp_path / "a.txt"
    final.write_text("before")
    with pytest.raises(error), atomic_file(final) as partial:  # noqa: PT012 - the block is the case
        partial.write_text("half")
        raise error
    assert final.read_text() == "before"
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_appears_whole_under_its_name(tmp_path: Path) -> None:
    final = tmp_path / "new" / "out"
    with atomic_dir(final) as partial:
        (partial / "a").write_text("a")
        assert not final.exists()
    assert (final / "a").read_text() == "a"
    assert list(final.parent.iterdir()) == [final]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_folder_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    final = tmp_path / "out"
    final.mkdir()
    (final / "before").write_text("before")
    with pytest.raises(error), atomic_dir(final, overwrite=True) as partial:  # noqa: PT012
        (partial / "after").write_text("half")
        raise error
    assert [path.name for path in final.iterdir()] == ["before"]
    assert list(tmp_path.iterdir()) == [final]


def test_overwriting_replaces_the_whole_folder(tmp_path: Path) -> None:
    final = tmp_path / "out"
    final.mkdir()
    (final / "before").write_text("before")
    with atomic_dir(final, overwrite=True) as partial:
        (partial / "after").write_text("after")
    assert [path.name for path in final.iterdir()] == ["after"]
    assert list(tmp_path.iterdir()) == [final]


def test_what_is_in_the_way_is_refused_unless_empty(tmp_path: Path) -> None:
    final = tmp_path / "out"
    final.mkdir()
    with atomic_dir(final) as partial:  # an empty folder is no loss
        (partial / "a").write_text("a")
    with pytest.raises(ConfigError, match="not empty.*--overwrite"), atomic_dir(final):
        pass
    with pytest.raises(ConfigError, match="is a file"), atomic_dir(final / "a", overwrite=True):
        pass
