"""Where a run's parameters, metrics and files are told to. MLflow's side of it is in `textremove.onray`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Takes what is worth remembering of one run.

    Attributes:
        run_id: Names the run; "" where nothing is remembered.
    """

    run_id: str

    def log_params(self, params: Mapping[str, object]) -> None:
        """Remembers the settings of the run. Nested mappings are flattened to dotted names."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Remembers figures, at a step (an epoch, say) or for the run as a whole."""
        ...

    def log_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Remembers the figures of the steps 1, 2, ... that the run does not know yet; a step only once."""
        ...

    def log_artifacts(self, path: Path, *, name: str = "") -> None:
        """Copies a file, or all files of a folder, into the run's folder `name`."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Remembers words to find the run by."""
        ...


class NullTracker:
    """Remembers nothing."""

    run_id = ""

    def log_params(self, params: Mapping[str, object]) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        pass

    def log_history(self, history: Sequence[Mapping[str, float]]) -> None:
        pass

    def log_artifacts(self, path: Path, *, name: str = "") -> None:
        pass

    def set_tags(self, tags: Mapping[str, str]) -> None:
        pass


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Flattens nested mappings: {"a": {"b": 1}} becomes {"a.b": 1}."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
