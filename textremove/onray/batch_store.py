"""A batch's output folder: pictures, the manifest, and what is needed to go on after an interruption.

::

    images/...          one file for each input that something was removed from
    manifest.parquet    one row per input; written at the end, replaced whole
    settings.json       what the pictures were made with
    parts/*.parquet     rows of a run that has not come to its end
    .partial/           files being written
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textremove.atomic import atomic_file
from textremove.errors import DatasetError
from textremove.onray.batch_inputs import BatchInput
from textremove.schema import MANIFEST_SCHEMA

MANIFEST_FILE = "manifest.parquet"
SETTINGS_FILE = "settings.json"
IMAGES_FOLDER = "images"

_PARTS, _PARTIAL = "parts", ".partial"
_ROWS_PER_PART = 1000
_SECONDS_PER_PART = 10.0  # what an interruption can cost
_SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


def output_name(input_id: str, format: str) -> str:
    """Names an input's output: its own name, with a suffix added when it had none of a format we write.

    Args:
        input_id: The input's name; parts that would lead out of the folder are left out.
        format: "JPEG", "PNG" or "WEBP".

    Returns:
        A path relative to the output folder.
    """
    parts = [part for part in PurePosixPath(input_id).parts if part not in ("/", "..", ".")]
    name = "/".join(parts)
    if PurePosixPath(name).suffix.lower() not in _KEPT_SUFFIXES:
        name += _SUFFIX_OF_FORMAT[format]
    return f"{IMAGES_FOLDER}/{name}"


def write_output(out: Path, name: str, data: bytes) -> None:
    """Writes one picture so that its name appears with all of its content, or not at all.

    The half-written file lies in one folder for all, so that a killed worker leaves nothing among the
    pictures.
    """
    partial = out / _PARTIAL / uuid.uuid4().hex
    partial.parent.mkdir(parents=True, exist_ok=True)
    final = out / name
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(data)
    os.replace(partial, final)


def remove_outputs(out: Path, input_id: str, *, but: str = "") -> None:
    """Removes pictures of an input that an earlier run with other settings left, except `but`."""
    for name in {output_name(input_id, format) for format in _SUFFIX_OF_FORMAT} - {but}:
        (out / name).unlink(missing_ok=True)


class BatchStore:
    """Keeps the rows of a batch as they come, and knows which inputs need no more work.

    Args:
        out: The output folder.
        settings: What the pictures are made with, JSON values; other settings start from nothing.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self._out = out
        self._rows: list[dict[str, Any]] = []
        self._written_at = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)
        self._open(settings)

    def _open(self, settings: dict[str, Any]) -> None:
        path = self._out / SETTINGS_FILE
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        known = path.is_file()
        if not known and any(self._out.iterdir()):
            raise DatasetError(f"{self._out} is not empty and is no batch's output; choose another --out")
        try:
            same = known and json.loads(path.read_text())["digest"] == digest
        except (ValueError, KeyError, TypeError):
            same = False  # half a year old, or edited: the pictures are of unknown making
        if same:
            return
        # The manifest goes first: from here on, the pictures are of mixed making until the run ends.
        (self._out / MANIFEST_FILE).unlink(missing_ok=True)
        shutil.rmtree(self._out / _PARTS, ignore_errors=True)
        with atomic_file(path) as partial:
            partial.write_text(json.dumps({"digest": digest, "settings": settings}, indent=2) + "\n")

    def done(self, inputs: Sequence[BatchInput]) -> dict[str, dict[str, Any]]:
        """Finds rows of earlier runs that still hold, by input_id.

        A row holds when the prompt is the same, the input has not changed since, and the picture, if there
        was one, is still there. Errors are tried again.
        """
        changed: dict[bytes, int] = {}
        rows: dict[str, dict[str, Any]] = {}
        recorded = self._recorded()
        for entry in inputs:
            row, recorded_at = recorded.get(entry.input_id, ({"status": "error"}, 0))
            if row["status"] == "error" or row["prompt"] != entry.prompt:
                continue
            if entry.path not in changed:
                changed[entry.path] = _changed_at(entry.path)
            if changed[entry.path] < recorded_at and (
                not row["output"] or (self._out / row["output"]).is_file()
            ):
                rows[entry.input_id] = row
        return rows

    def _recorded(self) -> dict[str, tuple[dict[str, Any], int]]:
        """Rows on disk by input_id, each with when it was recorded (ns); of several, the newest."""
        manifest = self._out / MANIFEST_FILE
        files = [manifest] if manifest.is_file() else []
        rows = {}
        for file in [*files, *sorted((self._out / _PARTS).glob("*.parquet"))]:
            recorded_at = file.stat().st_mtime_ns
            for row in pq.read_table(file, partitioning=None).to_pylist():
                rows[row["input_id"]] = (row, recorded_at)
        return rows

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Takes rows of MANIFEST_SCHEMA; they are on disk after some seconds at most."""
        self._rows += rows
        waited = time.monotonic() - self._written_at
        if len(self._rows) >= _ROWS_PER_PART or waited >= _SECONDS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that are not on disk yet."""
        if self._rows:
            # Names sort by time: of two rows for one input, the later one counts.
            part = self._out / _PARTS / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
            with atomic_file(part) as partial:
                pq.write_table(pa.Table.from_pylist(self._rows, schema=MANIFEST_SCHEMA), partial)
            self._rows = []
        self._written_at = time.monotonic()

    def finish(self, inputs: Sequence[BatchInput]) -> tuple[Path, list[dict[str, Any]]]:
        """Writes the manifest: one row per input, in the inputs' order.

        Returns:
            The manifest's path, and its rows.
        """
        self.flush()
        recorded = self._recorded()
        missing = [entry.input_id for entry in inputs if entry.input_id not in recorded]
        if missing:
            raise RuntimeError(f"{len(missing)} inputs came out without a row, the first is {missing[0]}")
        rows = [recorded[entry.input_id][0] for entry in inputs]
        manifest = self._out / MANIFEST_FILE
        with atomic_file(manifest) as partial:
            pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA), partial)
        shutil.rmtree(self._out / _PARTS, ignore_errors=True)
        return manifest, rows

    def clean(self) -> None:
        """Removes what killed writers left."""
        shutil.rmtree(self._out / _PARTIAL, ignore_errors=True)


def _changed_at(path: bytes) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0  # gone: what was made of it still holds
