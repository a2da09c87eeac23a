"""Ctrl-C or SIGTERM in the middle of a job: one line, nothing half-written, no Ray process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MARK = "TEXTREMOVE_TEST_MARK"
REPO = Path(__file__).resolve().parents[2]


def processes_of(mark: str) -> list[str]:
    """Command lines of the living processes that inherited the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:  # gone meanwhile, or not ours to look at
            continue
    return found


def wait_for(condition, seconds: float) -> bool:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


@pytest.mark.parametrize(
    ("moment", "number", "status", "line"),
    [
        ("while ray starts", signal.SIGINT, 130, "interrupted"),
        ("while shards are written", signal.SIGINT, 130, "interrupted"),
        ("while shards are written", signal.SIGTERM, 143, "terminated"),  # Ray has a handler of its own
    ],
)
def test_a_job_cut_short_leaves_nothing_half_done(
    scene_shards: Path, tmp_path: Path, moment: str, number: int, status: int, line: str
) -> None:
    mark = uuid.uuid4().hex
    images, masks = scene_shards / "PIPE", scene_shards / "PIPE_Masks"
    arguments = ["--images", images, "--masks", masks, "--out", tmp_path / "out"]
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs.prepare_pipe", *map(str, arguments)],
        cwd=REPO,
        env=os.environ | {MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def reached() -> bool:
        if moment == "while ray starts":
            return any("gcs_server" in line for line in processes_of(mark))
        return any(tmp_path.rglob("part-*.parquet"))

    assert wait_for(reached, 120), job.communicate()[1]
    if number == signal.SIGINT:
        os.killpg(job.pid, number)  # as a terminal does: to the whole foreground group
    else:
        job.send_signal(number)  # as Kubernetes does: to the program alone
    _, err = job.communicate(timeout=60)

    assert job.returncode == status, err
    assert err.splitlines()[-1] == line
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    for leavings in tmp_path.iterdir():  # finished shards, for the same command to go on from; no half one
        assert leavings.name == "out.preparing"
        finished = {path.stem for path in (leavings / "_shards").glob("*.parquet")}
        parts = {path.name.split("-")[1] for path in leavings.rglob("part-*")}
        assert finished
        assert parts <= finished
    assert wait_for(lambda: not processes_of(mark), 20), processes_of(mark)


_WAITS = """
import time
from dataclasses import dataclass
from jobs._main import run
from textremove.onray.cluster import connect
import ray

@dataclass
class Config:
    seconds: float = 300

def main(config: Config) -> None:
    with connect():
        task = ray.remote(lambda: time.sleep(config.seconds)).remote()
        print("waiting", flush=True)
        ray.get(task)

run(main, [])
"""


@pytest.mark.parametrize(
    ("number", "status", "line"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_job_that_waits_for_ray_is_cut_short_at_once(number: int, status: int, line: str) -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", _WAITS],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with job:
        said = job.stdout.readline()
        time.sleep(2)  # in `ray.get` for certain
        job.send_signal(number)
        try:
            _, err = job.communicate(timeout=40)
        finally:
            if job.poll() is None:  # still waiting, and `with` would wait for it
                os.killpg(job.pid, signal.SIGKILL)
    assert said == "waiting\n"
    assert (job.returncode, err.splitlines()) == (status, [line])
