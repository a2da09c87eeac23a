from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from jobs._main import run
from textremove.errors import ConfigError, DatasetError


@pytest.fixture(autouse=True)
def sigterm_put_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A job.

    Attributes:
        size: How large, in furlongs.
    """

    size: int = 3


def status_of(error: BaseException | None, argv: tuple[str, ...] = ()) -> object:
    def main(config: Config) -> None:
        """Does the job."""
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as exit:
        run(main, argv)
    return exit.value.code


def test_arguments_reach_the_job() -> None:
    seen = []

    def main(config: Config) -> None:
        seen.append(config.size)

    with pytest.raises(SystemExit) as exit:
        run(main, ["--size", "5"])
    assert (exit.value.code, seen) == (0, [5])


def test_help_shows_the_options_and_what_they_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(None, ("--help",)) == 0
    shown = capsys.readouterr().out
    assert "Does the job." in shown
    assert "--size" in shown
    assert "furlongs" in shown


def test_an_unknown_option_is_a_users_mistake() -> None:
    assert status_of(None, ("--sizes", "5")) == 2


def test_a_users_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(DatasetError("there is no\nfolder x")) == 2
    assert capsys.readouterr().err == "error: there is no folder x\n"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(OSError(28, "No space left on device", "x.parquet")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_mistake_found_behind_another_error_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("worker group failed")
    error.__cause__ = ConfigError("there is no preset x")
    assert status_of(error) == 2
    assert capsys.readouterr().err == "error: there is no preset x\n"


def test_rays_wrapper_is_unwrapped(capsys: pytest.CaptureFixture[str]) -> None:
    class Wrapper(DatasetError):  # as Ray makes one: an instance of its cause, its text a traceback
        cause = DatasetError("shard 7 is damaged")

    assert status_of(Wrapper("Traceback (most recent call last): ...")) == 2
    assert capsys.readouterr().err == "error: shard 7 is damaged\n"


def test_failures_of_training_workers_are_looked_into(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("training failed")
    error.worker_failures = {0: DatasetError("no train examples")}  # type: ignore[attr-defined]
    assert status_of(error) == 2
    assert capsys.readouterr().err == "error: no train examples\n"


def test_our_bugs_keep_their_traceback() -> None:
    def main(config: Config) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main, [])


def test_a_bug_met_while_handling_a_mistake_is_still_a_bug() -> None:
    def main(config: Config) -> None:
        try:
            raise DatasetError("handled")
        except DatasetError:
            raise KeyError("a bug")  # noqa: B904 - the implicit context is the point

    with pytest.raises(KeyError):
        run(main, [])


def test_ctrl_c_is_one_line_and_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_runs_the_cleanups_and_is_143(capsys: pytest.CaptureFixture[str]) -> None:
    cleaned = []

    def main(config: Config) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            cleaned.append(True)

    with pytest.raises(SystemExit) as exit:
        run(main, [])
    assert (exit.value.code, cleaned) == (143, [True])
    assert capsys.readouterr().err == "terminated\n"
