"""A trained model to the registry's champion, if it is better than the present one."""

from __future__ import annotations

from jobs._main import run
from textremove.onray.registry import CHAMPION, PromoteJob, promote


def main(job: PromoteJob) -> None:
    """Register a run's model in MLflow, and give it the alias champion if it beats the present champion."""
    result = promote(job)
    print(f"{result.name} version {result.version}: {result.reason}")
    state = "is" if result.promoted else "is not"
    print(f"models:/{result.name}@{CHAMPION} {state} version {result.version}")


if __name__ == "__main__":
    run(main)
