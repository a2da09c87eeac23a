"""A training whose driver is killed, then interrupted, and the same command each time: it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from jobs.train_segmenter import parse
from textremove.checkpoint import read_manifest
from textremove.onray.tracking import mlflow_client
from textremove.onray.train_segmenter import train_segmenter

from .test_interrupt import MARK, REPO, processes_of, wait_for
from .test_training_again import check_history, losses

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes through /proc")
@pytest.mark.timeout(1200)
def test_training_cut_short_leaves_no_model_and_goes_on_when_started_again(
    prepared_scenes: Path, tmp_path: Path
) -> None:
    mark = uuid.uuid4().hex
    store = f"sqlite:///{tmp_path}/mlflow.db"
    arguments = ["--data", str(prepared_scenes), "--image-size", "64", "--precision", "float32"]
    # The paper's rate: at higher ones runs that differ by rounding drift apart (docs/log.md).
    arguments += ["--epochs", "4", "--batch-size", "8", "--learning-rate", "1e-4"]
    mine = ["--out", f"{tmp_path}/model", "--tracking-uri", store, "--num-workers", "1"]
    command = [sys.executable, "-m", "jobs.train_segmenter", *arguments, *mine]

    def cut_short(number: int, line: str) -> tuple[int, str]:
        """Starts it, sends the signal when the line is said; gives exit status and errors."""
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
            assert wait_for(lambda: f"\n{line}" in out.read_text(), 240), err.read_text()
            if number == signal.SIGKILL:
                job.kill()  # the driver alone, not the Ray below it
            else:
                os.killpg(job.pid, number)
            status = job.wait(timeout=90)
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGTERM)
                job.wait(timeout=30)
        assert not (tmp_path / "model").exists()
        return status, err.read_text()

    # Once the second epoch is told of, the first one's checkpoint is safe, and the third has begun.
    status, _ = cut_short(signal.SIGKILL, "epoch 2 of 4")
    assert status == -signal.SIGKILL
    # At once: what is left of the first Ray is not in the way.
    status, errors = cut_short(signal.SIGINT, "going on after epoch")
    assert (status, errors.splitlines()[-1]) == (130, "interrupted")
    assert wait_for(lambda: not processes_of(mark), 20), processes_of(mark)

    again = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=280)
    assert again.returncode == 0, again.stderr
    assert "going on after epoch" in again.stdout
    assert not (tmp_path / "model.training").exists()
    metadata = read_manifest(tmp_path / "model")["metadata"]
    assert metadata["epochs"] == 4

    client = mlflow_client(store)
    runs = client.search_runs([client.get_experiment_by_name("textremove").experiment_id])
    assert [run.info.run_id for run in runs] == [metadata["run_id"]]
    check_history(store, metadata["run_id"], 4)

    undisturbed = train_segmenter(
        parse(
            [*arguments, "--out", f"{tmp_path}/undisturbed", "--tracking-uri", "none", "--num-workers", "0"]
        ),
        say=lambda line: None,
    )
    told = client.get_metric_history(metadata["run_id"], "val_loss")
    np.testing.assert_allclose([metric.value for metric in told], losses(undisturbed)[:, 1], rtol=0.01)
