"""Lines for a person from inside Ray workers: they say, the driver prints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

Say = Callable[[str], None]

_POLL_SECONDS = 0.5


class _Lines:
    """Lines said and not yet fetched. Lives in an actor."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, line: str) -> None:
        self._lines.append(line)

    def fetch(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


class RemoteSay:
    """Says a line to the driver from any worker; does not wait for it to arrive."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __call__(self, line: str) -> None:
        self._actor.say.remote(line)


@contextmanager
def voice(say: Say, *, num_workers: int) -> Iterator[Say]:
    """Gives workers a voice for the length of a with-block.

    Args:
        say: Takes each line on the driver, from a thread.
        num_workers: With 0 the work is done in this process, and `say` itself will do.

    Yields:
        What to hand to workers.
    """
    if num_workers == 0:
        yield say
        return
    actor = ray.remote(num_cpus=0)(_Lines).remote()
    done = threading.Event()

    def fetch() -> None:
        for line in ray.get(actor.fetch.remote()):
            say(line)

    def fetch_until_done() -> None:
        while not done.wait(_POLL_SECONDS):
            try:
                fetch()
            except RayError:  # the cluster goes down around us; the job itself says so
                return

    thread = threading.Thread(target=fetch_until_done, name="lines-from-workers", daemon=True)
    thread.start()
    try:
        yield RemoteSay(actor)
        fetch()  # what was said last
    finally:
        done.set()
        thread.join(timeout=5)
        ray.kill(actor)
