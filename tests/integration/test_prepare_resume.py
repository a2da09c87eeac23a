"""prepare_pipe killed in the middle: started again it goes on, and the result is that of a quiet run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from textremove.onray.prepare import PrepareConfig, prepare
from textremove.pipe.prepared import DATASET_FILE

from .test_interrupt import REPO, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def undisturbed(ray_session: None, many_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """dataset.json of a run that nobody disturbed; the digest of every file is in it."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    prepare(_job(many_shards, out), progress=lambda line: None)
    return (out / DATASET_FILE).read_text()


def _job(shards: Path, out: Path) -> PrepareConfig:
    return PrepareConfig(images=f"{shards}/PIPE", masks=f"{shards}/PIPE_Masks", out=str(out))


def test_a_killed_driver_costs_no_row_and_no_finished_shard(
    many_shards: Path, undisturbed: str, tmp_path: Path
) -> None:
    out, said = tmp_path / "out", tmp_path / "said.txt"
    command = [sys.executable, "-u", "-m", "jobs.prepare_pipe", "--out", str(out)]
    command += ["--images", f"{many_shards}/PIPE", "--masks", f"{many_shards}/PIPE_Masks"]
    with said.open("w") as file:
        driver = subprocess.Popen(command, cwd=REPO, stdout=file, stderr=file, start_new_session=True)
    try:
        assert wait_for(lambda: "shard 2 of" in said.read_text(), 120), said.read_text()
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert not out.exists()
    lines: list[str] = []
    prepare(_job(many_shards, out), progress=lines.append)
    assert "shards are prepared already; going on" in lines[0]
    done = int(lines[0].split()[0])
    assert done >= 2
    assert len(lines) == 1 + int(lines[0].split()[2]) - done  # only the others were prepared
    assert (out / DATASET_FILE).read_text() == undisturbed
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["out"]


def test_a_killed_worker_costs_no_row(many_shards: Path, undisturbed: str, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_a_worker_once(line: str) -> None:
        if not killed:
            for process in psutil.Process().children(recursive=True):
                if "ray::prepare_shard" in " ".join(process.cmdline()):
                    killed.append(process.pid)
                    process.kill()
                    return

    out = tmp_path / "out"
    prepare(_job(many_shards, out), progress=kill_a_worker_once)
    assert killed
    assert (out / DATASET_FILE).read_text() == undisturbed


def test_leavings_of_another_job_are_not_taken_for_this_one_s(
    many_shards: Path, undisturbed: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(PrepareConfig(**(vars(_job(many_shards, out)) | {"resolution": 32})), progress=stop)
    lines: list[str] = []
    prepare(_job(many_shards, out), progress=lines.append)
    assert "going on" not in lines[0]
    assert (out / DATASET_FILE).read_text() == undisturbed
