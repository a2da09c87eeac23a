"""Ctrl-C in the middle of a training, and the same command again: it goes on where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from textremove.checkpoint import read_manifest

from .test_interrupt import MARK, REPO, processes_of, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes through /proc")
def test_training_cut_short_leaves_no_model_and_goes_on_when_started_again(
    prepared_scenes: Path, tmp_path: Path
) -> None:
    mark = uuid.uuid4().hex
    store = f"sqlite:///{tmp_path}/mlflow.db"
    arguments = ["--data", prepared_scenes, "--out", tmp_path / "model", "--tracking-uri", store]
    arguments += ["--epochs", "3", "--batch-size", "8", "--image-size", "64", "--num-workers", "1"]
    command = [sys.executable, "-m", "jobs.train_segmenter", *map(str, arguments)]
    out, err = tmp_path / "stdout.txt", tmp_path / "stderr.txt"
    with out.open("w") as to_out, err.open("w") as to_err:
        job = subprocess.Popen(
            command,
            cwd=REPO,
            env=os.environ | {MARK: mark},
            stdout=to_out,
            stderr=to_err,
            start_new_session=True,
        )
    try:
        # Once the second epoch is told of, the first one's checkpoint is safe.
        assert wait_for(lambda: "\nepoch 2 of 3" in out.read_text(), 240), err.read_text()
        os.killpg(job.pid, signal.SIGINT)
        assert job.wait(timeout=90) == 130, err.read_text()
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGTERM)
            job.wait(timeout=30)
    assert err.read_text().splitlines()[-1] == "interrupted"
    assert not (tmp_path / "model").exists()
    assert wait_for(lambda: not processes_of(mark), 20), processes_of(mark)

    again = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=280)
    assert again.returncode == 0, again.stderr
    assert "going on after epoch" in again.stdout
    assert read_manifest(tmp_path / "model")["metadata"]["epochs"] == 3
    assert not (tmp_path / "model.training").exists()
