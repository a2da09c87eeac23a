"""Steps of a long job: each is named as it begins, with a running clock in a terminal, and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Steps:
    """Announces and times the steps of a job.

    Args:
        total: How many there will be.

    Attributes:
        seconds: Duration of each finished step by its name, in order.
    """

    def __init__(self, total: int) -> None:
        self.seconds: dict[str, float] = {}
        self._total = total
        self._started = 0
        self._console = Console(highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str, *, about: str) -> Iterator[None]:
        """Runs one step in a with-block.

        Args:
            name: What it does, as an instruction: "train the segmenter".
            about: What to expect, above all how long it takes.
        """
        self._started += 1
        print(f"\n[{self._started}/{self._total}] {name} ({about})", flush=True)
        begun = time.monotonic()
        # What a step prints appears above the clock. Without a terminal there is no clock, only lines.
        clock = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        with clock:
            clock.add_task(name, total=None)
            yield
        self.seconds[name] = time.monotonic() - begun
        print(f"    done in {self.seconds[name]:.0f} s", flush=True)
