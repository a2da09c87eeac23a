"""The HTTP service as a process of its own, for the length of a with-block, on the Ray of this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import ray

from textremove.onray.cluster import free_port

_START_SECONDS = 180.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.5


@contextmanager
def service(arguments: Sequence[str], *, log: Path) -> Iterator[str]:
    """Runs `python -m serve` on the Ray that this process is connected to.

    Args:
        arguments: For the service: models, replicas.
        log: File for what it prints.

    Yields:
        Its base URL, once it answers.

    Raises:
        RuntimeError: It ended, or did not answer in time; the message has the end of what it printed.
    """
    port = free_port()
    command = [sys.executable, "-m", "serve", "--port", str(port), *arguments]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, f"{url}/readyz", log)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with status {process.returncode}: {_end_of(log)}")
        try:
            if httpx.get(url, timeout=10.0).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:  # nobody listens yet
            pass
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"the service did not answer in {_START_SECONDS:.0f} s: {_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
