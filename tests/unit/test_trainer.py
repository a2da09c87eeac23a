from __future__ import annotations

from pathlib import Path

import pytest

from textremove.errors import ConfigError
from textremove.onray.trainer import Unfinished, check_out, cpus_per_worker


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("total", [2.0, 4.0, 16.0, 128.0])
def test_workers_always_leave_a_slot_for_reading(num_workers: int, total: float) -> None:
    share = cpus_per_worker(num_workers, total)
    assert 0 < share <= 1
    assert share * num_workers <= total - 1 + 1e-9


def test_a_cluster_that_has_no_nodes_yet_is_asked_for_whole_cpus() -> None:
    assert cpus_per_worker(4, 0.0) == 1.0


def test_the_same_job_finds_its_unfinished_run_and_another_does_not(tmp_path: Path) -> None:
    first = Unfinished(tmp_path / "model", "segmenter", {"epochs": 4})
    first.begin("run-1")
    assert Unfinished(tmp_path / "model", "segmenter", {"epochs": 4}).run_id() == "run-1"
    assert Unfinished(tmp_path / "model", "segmenter", {"epochs": 5}).run_id() == ""
    assert not (tmp_path / "model").exists()
    first.forget()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model").touch()
    with pytest.raises(ConfigError, match="--overwrite"):
        check_out(tmp_path / "full", overwrite=False)
    with pytest.raises(ConfigError, match="is a file"):
        check_out(tmp_path / "full" / "model", overwrite=True)
    check_out(tmp_path / "full", overwrite=True)
    check_out(tmp_path / "new", overwrite=False)
