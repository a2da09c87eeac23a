"""Folders by location: what is there, whole files only, and one line for what cannot be reached."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from textremove.errors import ConfigError
from textremove.storage import absolute, open_store


def test_files_are_written_whole_listed_and_read(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new")
    assert store.files() == []
    assert not store.exists()
    store.make("a")
    store.write("a/x.txt", b"one")
    store.write("a/x.txt", b"two")
    store.write("y.bin", b"")
    assert store.files() == ["a/x.txt", "y.bin"]
    assert store.files(".txt") == ["a/x.txt"]
    assert store.read("a/x.txt") == b"two"
    assert store.within("a").files() == ["x.txt"]
    assert (store.is_file("y.bin"), store.is_file("a"), store.exists("a")) == (True, False, True)
    store.delete("y.bin")
    store.delete("y.bin")
    store.delete_folder("a")
    assert store.files() == []
    with pytest.raises(FileNotFoundError):
        store.read("a/x.txt")


def test_a_file_that_failed_half_way_is_not_there(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write("x", b"before")

    def fail_half_way() -> None:
        with store.replacing("x") as path:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert store.read("x") == b"before"
    assert store.files() == ["x"]


def test_a_store_means_the_same_folder_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("here").make()
    store = pickle.loads(pickle.dumps(open_store("here")))
    monkeypatch.chdir("/")
    store.write("x", b"1")
    assert (tmp_path / "here" / "x").read_bytes() == b"1"
    assert absolute("s3://bucket/folder") == "s3://bucket/folder"


def test_an_address_of_an_unknown_kind_is_one_line() -> None:
    with pytest.raises(ConfigError, match="give a folder, or s3://bucket/folder"):
        open_store("gopher://host/folder")
