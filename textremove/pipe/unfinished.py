"""A prepared folder while it is not done: where its parts are written, and which shards are finished.

A local folder is prepared beside its final name, "<name>.preparing", and renamed when it is complete. An
object store cannot rename, so there it is prepared in place, and dataset.json, written last, makes it one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textremove.atomic import replace_folder
from textremove.errors import ConfigError
from textremove.pipe.prepared import DATASET_FILE
from textremove.pipe.shard import JOURNAL_FOLDER, STOP_FILE, ShardSummary
from textremove.schema import SPLITS
from textremove.storage import open_store

_JOB_FILE = f"{JOURNAL_FOLDER}/job.json"


class UnfinishedFolder:
    """Where a folder is prepared.

    Args:
        out: Its final location.
        settings: All that its content depends on; another job's leavings are not taken for this one's.
        overwrite: Whether to replace what is in `out`.

    Raises:
        ConfigError: Something is there already, and `overwrite` was not asked for.
    """

    def __init__(self, out: str, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.out = open_store(out)
        self.store = open_store(f"{self.out.root}.preparing") if self.out.is_local else self.out
        self._job = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self._check(overwrite)

    def _check(self, overwrite: bool) -> None:
        if self.out.is_file():
            raise ConfigError(f"{self.out.location} is a file; give the name of a folder")
        unfinished = not self.out.is_local and self.out.exists(_JOB_FILE)
        if not overwrite and not unfinished and self.out.files():
            raise ConfigError(
                f"{self.out.location} is there already and not empty; give another name or --overwrite"
            )

    def begin(self) -> set[int]:
        """Takes up what an earlier attempt at the same job left, or begins anew.

        Returns:
            The shards that are finished.
        """
        if self._is_ours():
            self.store.delete(STOP_FILE)
            self._sweep()
            return self.finished()
        self.store.delete_folder()
        for name in (JOURNAL_FOLDER, *(f"split={split}" for split in SPLITS)):
            self.store.make(name)
        self.store.write(_JOB_FILE, self._job.encode())
        return set()

    def finished(self) -> set[int]:
        """Positions of the shards whose parts are complete."""
        names = (name.rpartition("/")[2] for name in self.store.within(JOURNAL_FOLDER).files(".parquet"))
        return {int(name.removesuffix(".parquet")) for name in names}

    def summaries(self) -> list[ShardSummary]:
        """What became of the finished shards."""
        return [ShardSummary.load(self.store, index) for index in sorted(self.finished())]

    def leave(self) -> None:
        """After an interrupt: keeps the finished shards for the next attempt and nothing else."""
        if self.store.exists(JOURNAL_FOLDER):
            self._sweep()
            if not self.finished():
                self.store.delete_folder()

    def publish(self, files: Sequence[Mapping[str, Any]], documents: Mapping[str, bytes]) -> None:
        """Completes the folder under its final name.

        Args:
            files: The part files that belong to it.
            documents: Further files by name; dataset.json among them is written last.
        """
        listed = {file["path"] for file in files}
        for name in self.store.files(".parquet"):
            if name.startswith("split=") and name not in listed:
                self.store.delete(name)
        if self.store.is_local:
            for split in SPLITS:
                if not any(name.startswith(f"split={split}/") for name in listed):
                    self.store.delete_folder(f"split={split}")
        for name in sorted(documents, key=lambda name: name == DATASET_FILE):
            self.store.write(name, documents[name])
        self.store.delete_folder(JOURNAL_FOLDER)
        if self.store.is_local:
            replace_folder(Path(self.store.root), Path(self.out.root))

    def _is_ours(self) -> bool:
        try:
            return self.store.read(_JOB_FILE) == self._job.encode()
        except FileNotFoundError:
            return False

    def _sweep(self) -> None:
        """Deletes part files of shards that were not finished."""
        finished = {f"part-{index:05d}-" for index in self.finished()}
        for name in self.store.files():
            part = name.rpartition("/")[2]
            if name.startswith("split=") and part[: len("part-00000-")] not in finished:
                self.store.delete(name)
