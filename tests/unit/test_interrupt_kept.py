"""Ctrl-C that falls into a destructor, where Python loses it, still ends the job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, time
from dataclasses import dataclass
from jobs._main import run

class Unlucky:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):  # the interrupt is raised in here, and lost
            time.sleep(0.01)

@dataclass
class Config:
    seconds: int = 20

def main(config: Config) -> None:
    '''Sleep.'''
    unlucky = Unlucky()
    del unlucky
    time.sleep(config.seconds)
    print("ran to its end")

run(main, [])
"""


def test_an_interrupt_lost_in_a_destructor_is_sent_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert done.stderr.splitlines() == ["interrupted"]
    assert "ran to its end" not in done.stdout
