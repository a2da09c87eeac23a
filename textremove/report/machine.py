"""What a run ran on, for the end of a report and beside every figure."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = (
    "textremove",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "peft",
    "ray",
    "mlflow",
    "numpy",
)
"""Whose versions decide the figures."""


def describe_machine(packages: Sequence[str] = PACKAGES) -> list[tuple[str, str]]:
    """Names and values: processor, cores, memory, system, Python and package versions.

    Args:
        packages: Installed distributions to list.

    Returns:
        Pairs for a report's environment, in reading order.
    """
    return [
        ("Processor", _processor()),
        ("Cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())),
        ("Memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        ("System", f"{platform.system()} {platform.release()} ({platform.machine()})"),
        ("Python", platform.python_version()),
        ("Packages", ", ".join(f"{name} {version(name)}" for name in packages)),
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
