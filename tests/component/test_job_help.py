"""Every job can be asked what it takes: its command line is whole."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from jobs._main import run

JOBS = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[2] / "jobs").glob("[a-z]*.py")
    if path.stem != "recipes"
)


@pytest.mark.parametrize("job", JOBS)
def test_help_lists_the_settings(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"jobs.{job}")
    with pytest.raises(SystemExit) as exit:
        run(module.main, ["--help"], parse=getattr(module, "parse", None))
    assert exit.value.code == 0
    assert "--" in capsys.readouterr().out
