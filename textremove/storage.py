"""Folders by location, through one interface: a path on this machine, or an s3:// address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from textremove.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Store:
    """A folder on some file system. Small and picklable: tasks on other machines are handed it.

    Attributes:
        location: As a person gives it: a path, or "s3://bucket/folder".
        filesystem: Arrow's file system.
        root: The folder's path on it.
    """

    location: str
    filesystem: fs.FileSystem
    root: str

    @property
    def is_local(self) -> bool:
        """Whether it is on a file system of this machine, where files can be renamed."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """A file's path on the file system; `name` is relative, with slashes."""
        return f"{self.root}/{name}" if name else self.root

    def within(self, name: str) -> Store:
        """A folder in this one."""
        return Store(
            location=f"{self.location.rstrip('/')}/{name}", filesystem=self.filesystem, root=self.path(name)
        )

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name."""
        with self._one_line_errors():
            return self.filesystem.get_file_info(self.path(name)).type != fs.FileType.NotFound

    def is_file(self, name: str = "") -> bool:
        """Whether there is a file of that name."""
        with self._one_line_errors():
            return self.filesystem.get_file_info(self.path(name)).type == fs.FileType.File

    def files(self, suffix: str = "") -> list[str]:
        """Names of the files in and below, relative and sorted; none when there is no such folder."""
        with self._one_line_errors():
            selector = fs.FileSelector(self.root, recursive=True, allow_not_found=True)
            found = self.filesystem.get_file_info(selector)
        start = len(self.root.rstrip("/")) + 1
        names = (info.path[start:] for info in found if info.type == fs.FileType.File)
        return sorted(name for name in names if name.endswith(suffix))

    def make(self, name: str = "") -> None:
        """Makes the folder, and those above it."""
        with self._one_line_errors():
            self.filesystem.create_dir(self.path(name), recursive=True)

    def read(self, name: str) -> bytes:
        """Reads a whole file.

        Raises:
            FileNotFoundError: There is none.
        """
        with self.filesystem.open_input_stream(self.path(name), compression=None) as stream:
            data: bytes = stream.read()
        return data

    def write(self, name: str, data: bytes) -> None:
        """Writes a whole file, replacing one that is there; it appears whole or not at all."""
        with self.replacing(name) as path, self.filesystem.open_output_stream(path) as stream:
            stream.write(data)

    @contextmanager
    def replacing(self, name: str) -> Iterator[str]:
        """Gives a path to write a file to, and moves it to its name when the block ends well.

        An object store shows an object only when its upload is complete, so there it is the name itself.
        """
        if not self.is_local:
            yield self.path(name)
            return
        partial = self.path(f"{name}.partial-{os.getpid()}")
        try:
            yield partial
            self.filesystem.move(partial, self.path(name))
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        if self.exists(name):
            self.filesystem.delete_file(self.path(name))

    def delete_folder(self, name: str = "") -> None:
        """Deletes a folder and all in it, if it is there."""
        if self.exists(name):
            self.filesystem.delete_dir(self.path(name))

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(f"{self.location} cannot be reached ({said[:300]})") from None


def open_store(location: str | Path) -> Store:
    """Opens a folder that may or may not exist yet.

    Args:
        location: A path, or an address such as "s3://bucket/folder". Credentials, region and endpoint of S3
            come from the usual environment: AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL and so on.

    Raises:
        ConfigError: An address of an unknown kind.
    """
    text = str(location)
    if "://" not in text:
        return Store(location=text, filesystem=fs.LocalFileSystem(), root=str(Path(text).resolve()))
    try:
        if text.startswith("s3://") and "?" not in text:
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            filesystem, root = fs.S3FileSystem(endpoint_override=endpoint), text.removeprefix("s3://")
        else:
            filesystem, root = fs.FileSystem.from_uri(text)
    except (OSError, ValueError, pa.ArrowException) as error:
        said = next(iter(str(error).splitlines()), "")
        raise ConfigError(f"{text}: {said}; give a folder, or s3://bucket/folder") from None
    return Store(location=text, filesystem=filesystem, root=root.rstrip("/"))


def absolute(location: str | Path) -> str:
    """The same location in a form that means the same in every process."""
    return str(location) if "://" in str(location) else str(Path(location).resolve())
