"""Memory of a process tree, the machine, and results as JSON."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from textremove.atomic import atomic_file
from textremove.report.machine import PACKAGES, describe_machine

RESULTS = Path(__file__).parent / "results"


class PeakMemory:
    """Peak memory of this process and all below it, sampled while a with-block runs.

    Shared pages are counted once, by proportional set size: Ray's object store is mapped by every worker.

    Args:
        seconds: Between samples.
    """

    def __init__(self, *, seconds: float = 0.5) -> None:
        self.peak_bytes = 0
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self.peak_bytes = max(self.peak_bytes, _tree_bytes())


def _tree_bytes() -> int:
    total = 0
    for process in (me := psutil.Process(os.getpid()), *me.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # gone meanwhile
            continue
    return total


def _is_installed(package: str) -> bool:
    # A machine that is there for its GPU may have the checkout, and neither Ray nor MLflow.
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """Writes a benchmark's figures with the machine they were measured on, and prints them."""
    packages = [name for name in PACKAGES if _is_installed(name)]
    whole = {**result, "machine": dict(describe_machine(packages))}
    with atomic_file(RESULTS / f"{name}.json") as partial:
        partial.write_text(json.dumps(whole, indent=2) + "\n")
    print(json.dumps(whole, indent=2))
