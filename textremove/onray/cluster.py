"""Connecting to Ray: a small local one, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.data import DataContext

from textremove.errors import ConfigError

MIN_LOCAL_CPUS = 4
"""Slots of a local Ray on a smaller machine. With two, the training workers or an actor pool take
both, nothing is left to read data with, and the job waits for itself."""

_DATA_SETTINGS: dict[str, object] = {
    # The V2 parquet reader starts a pool of footer actors at every epoch: seconds before a first batch.
    "use_datasource_v2": False,
    # A starved pipeline is an error after five minutes, not after half an hour of silence.
    "execution_no_progress_timeout_s": 300,
    "enable_progress_bars": False,
}
PATIENCE_SECONDS = 6 * 3600
"""How long a stage that runs models, or a stream that training takes from, may hand nothing on instead.

Ray Data looks at its queues alone: a large model on a CPU or a pause to validate is a standstill to it.
"""

_STATE_ADDRESS = "RAY_API_SERVER_ADDRESS"
"""What tells Ray's own actors where to ask for the state of their cluster.

Unset, they ask the cluster that `ray start` last wrote down on this machine, though it be another or long
dead: then Ray Train's guard, which is to clean up after a killed training, holds up the end of every training
by twelve seconds, or gives up as soon as it starts.
"""

_MAX_OBJECT_STORE = 4 * 2**30
_MIN_OBJECT_STORE = 128 * 2**20


@contextmanager
def connect(
    address: str | None = None, *, num_cpus: int | None = None, log_to_driver: bool = False
) -> Iterator[None]:
    """Connects to Ray for the length of a with-block, and shuts down what it started.

    Inside a connection that is already there it does nothing, so jobs and tests can share one.

    Args:
        address: A running cluster; None takes the environment's RAY_ADDRESS, else starts a local Ray.
        num_cpus: Slots of a local Ray; None for the machine's cores, but at least MIN_LOCAL_CPUS.
        log_to_driver: Whether what workers print appears here.
    """
    if ray.is_initialized():
        with _data_settings():
            yield
        return
    state_address = os.environ.get(_STATE_ADDRESS)
    try:
        with _own_sigterm_handler():
            _start(address or os.environ.get("RAY_ADDRESS"), num_cpus, log_to_driver)
        with _data_settings():
            yield
    finally:
        os.environ.pop(_STATE_ADDRESS, None)
        if state_address is not None:
            os.environ[_STATE_ADDRESS] = state_address
        # A second Ctrl-C must not leave half of Ray running.
        with _uninterrupted(), _unheard():
            ray.shutdown()


def check_gpus(needed: float, address: str | None, *, flag: str, say: Callable[[str], None]) -> None:
    """Says that GPUs are lacking, before somebody waits for them in vain.

    Args:
        needed: So many at once.
        address: As `connect` was given it.
        flag: What asks for them, for the message.
        say: Takes a line for a person where there is a cluster, which may yet start the nodes.

    Raises:
        ConfigError: A local Ray has fewer.
    """
    there = ray.cluster_resources().get("GPU", 0)
    if there >= needed:
        return
    lack = f"{flag} needs {needed:g} GPUs at once, and there are {there:g}"
    if not (address or os.environ.get("RAY_ADDRESS")):
        raise ConfigError(f"{lack}; ask for a smaller share of one, or for 0 to run on CPUs")
    say(f"{lack}: waiting for the cluster to start more")


def local_cpus(num_cpus: int | None = None) -> int:
    """How many slots a local Ray gets: as asked, else one a core, but at least MIN_LOCAL_CPUS."""
    return num_cpus or max(MIN_LOCAL_CPUS, len(os.sched_getaffinity(0)))


def object_store_bytes(*, memory: int, shared_memory: int) -> int:
    """Size of a local object store: a fifth of memory, inside what /dev/shm has free, at most 4 GiB."""
    return max(_MIN_OBJECT_STORE, min(memory // 5, int(shared_memory * 0.8), _MAX_OBJECT_STORE))


def _start(address: str | None, num_cpus: int | None, log_to_driver: bool) -> None:
    if address and address != "local":
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=log_to_driver)
        return
    # Ray would otherwise write a token into the home folder and ask for it ever after.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Serve kills an HTTP proxy that is not up in five seconds; on a busy laptop it takes longer.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    # Ray's workers give way to everything else (nice 15) and hardly move on a busy laptop.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # `uv run` must not make Ray rebuild an environment for every worker.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    port = free_port()
    os.environ[_STATE_ADDRESS] = f"http://127.0.0.1:{port}"
    ray.init(
        address="local",
        dashboard_port=port,
        num_cpus=local_cpus(num_cpus),
        object_store_memory=object_store_bytes(memory=_memory(), shared_memory=_shared_memory()),
        logging_level=logging.ERROR,
        log_to_driver=log_to_driver,
    )


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _shared_memory() -> int:
    shm = Path("/dev/shm")
    return shutil.disk_usage(shm).free if shm.is_dir() else _memory()


@contextmanager
def _data_settings() -> Iterator[None]:
    """Settings that datasets copy when they are made; put back afterwards."""
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = {name: getattr(context, name) for name in _DATA_SETTINGS}
    level = logger.level
    for name, value in _DATA_SETTINGS.items():
        setattr(context, name, value)
    logger.setLevel(logging.ERROR)  # jobs print their own progress, one line at a time
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keeps the program's handler, which `ray.init` would replace by a plain exit with status 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _unheard() -> Iterator[None]:
    """Drops what is written to standard error, also by Ray's C++ code.

    While it ends, that sometimes reports a task that dies with its interrupted driver, beside the one line
    that the job itself says.
    """
    if sys.stderr is None:  # closed by whoever started this
        yield
        return
    sys.stderr.flush()
    before = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
