"""A training whose driver is killed, then interrupted, and one that loses its node: the same run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from jobs.train_segmenter import parse
from textremove.checkpoint import read_manifest
from textremove.onray.tracking import mlflow_client
from textremove.onray.train_segmenter import train_segmenter

from .conftest import free_port, is_listening
from .test_interrupt import MARK, REPO, processes_of, wait_for
from .test_training_again import check_history, losses

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NUM_EPOCHS = 4


def arguments(data: Path) -> list[str]:
    """What makes it the same training, whoever runs it."""
    # The paper's rate: at higher ones runs that differ by rounding drift apart (docs/log.md).
    rates = ["--batch-size", "8", "--learning-rate", "1e-4", "--precision", "float32"]
    return ["--data", str(data), "--image-size", "64", "--epochs", str(NUM_EPOCHS), *rates]


@pytest.fixture(scope="module")
def undisturbed(prepared_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Validation losses of the training that nothing happens to."""
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    given = [*arguments(prepared_scenes), "--out", str(out), "--tracking-uri", "none", "--num-workers", "0"]
    return losses(train_segmenter(parse(given), say=lambda line: None))[:, 1]


def check_run(store: str, model: Path, undisturbed: np.ndarray) -> None:
    """There is one run, every epoch is in it once, and it learnt what an undisturbed one does."""
    metadata, client = read_manifest(model)["metadata"], mlflow_client(store)
    assert metadata["epochs"] == NUM_EPOCHS
    runs = client.search_runs([client.get_experiment_by_name("textremove").experiment_id])
    assert [run.info.run_id for run in runs] == [metadata["run_id"]]
    check_history(store, metadata["run_id"], NUM_EPOCHS)
    told = client.get_metric_history(metadata["run_id"], "val_loss")
    np.testing.assert_allclose([metric.value for metric in told], undisturbed, rtol=0.01)


@pytest.mark.timeout(1200)
def test_training_cut_short_leaves_no_model_and_goes_on_when_started_again(
    prepared_scenes: Path, undisturbed: np.ndarray, tmp_path: Path
) -> None:
    mark = uuid.uuid4().hex
    store = f"sqlite:///{tmp_path}/mlflow.db"
    mine = ["--out", f"{tmp_path}/model", "--tracking-uri", store, "--num-workers", "1"]
    command = [sys.executable, "-m", "jobs.train_segmenter", *arguments(prepared_scenes), *mine]

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
    check_run(store, tmp_path / "model", undisturbed)


@contextmanager
def ray_node(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A raylet with its workers in a process group of its own, for the length of a with-block."""
    ray = str(Path(sys.executable).with_name("ray"))
    ports = ["--min-worker-port", "0", "--max-worker-port", "0"]  # other nodes of this machine have theirs
    node = subprocess.Popen(
        [ray, "start", "--block", "--object-store-memory", "300000000", *ports, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield node
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.mark.timeout(600)
def test_training_goes_on_when_its_node_is_lost_and_another_comes(
    prepared_scenes: Path, undisturbed: np.ndarray, tmp_path: Path
) -> None:
    store, out, port = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "stdout.txt", free_port()
    address = f"127.0.0.1:{port}"
    mine = ["--out", f"{tmp_path}/model", "--tracking-uri", store, "--address", address]
    command = [sys.executable, "-m", "jobs.train_segmenter", *arguments(prepared_scenes), *mine]
    # The head has room for reading alone, and training needs the other node.
    head = ["--head", "--port", str(port), "--include-dashboard", "false", "--num-cpus", "1"]
    other = ["--address", address, "--num-cpus", "2"]
    with ray_node(*head), ExitStack() as nodes:
        assert wait_for(lambda: is_listening(port), 60)
        lost = nodes.enter_context(ray_node(*other))
        with (
            out.open("w") as to_out,
            subprocess.Popen(command, cwd=REPO, stdout=to_out, stderr=subprocess.STDOUT) as job,
        ):
            try:
                assert wait_for(lambda: "\nepoch 2 of" in out.read_text(), 240), out.read_text()
                os.killpg(lost.pid, signal.SIGKILL)  # the decoded pictures that it held go with it
                nodes.enter_context(ray_node(*other))
                assert job.wait(timeout=240) == 0, out.read_text()
            finally:
                job.kill()
    assert out.read_text().count("\ngoing on after epoch") == 1, out.read_text()
    check_run(store, tmp_path / "model", undisturbed)
