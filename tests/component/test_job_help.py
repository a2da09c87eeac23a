"""Every job can be asked what it takes: its command line is whole."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

JOBS = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[2] / "jobs").glob("[a-z]*.py")
    if path.stem != "recipes"
)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
@pytest.mark.parametrize("job", JOBS)
def test_help_lists_the_settings(
    job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [job, "--help"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_module(f"jobs.{job}", run_name="__main__")
    assert exit.value.code == 0
    assert "--" in capsys.readouterr().out
