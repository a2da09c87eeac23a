"""The stages of a batch that hold a model: one process each, the model loaded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from textremove.errors import UserError
from textremove.onray import stages
from textremove.presets import load_inpainter, load_segmenter


class _ModelActor:
    """A model that is loaded once; a mistake of the user in loading it is told through the rows."""

    def __init__(self, load: Callable[[], Any], stage: Callable[[list[stages.Row], Any], list[stages.Row]]):
        self._stage = stage
        self._failure = ""
        try:
            self._model = load()
        except UserError as error:  # raised from here, it would arrive as a traceback in a text
            self._failure = str(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        if self._failure:
            return stages.as_table(
                [row | {"failure": row["failure"] or self._failure, "image": None} for row in rows]
            )
        return stages.as_table(self._stage(rows, self._model))


class SegmentActor(_ModelActor):
    """The segmenting stage, with its model."""

    def __init__(self, segmenter: str, device: str) -> None:
        super().__init__(lambda: load_segmenter(segmenter, device=device), stages.segment)


class InpaintActor(_ModelActor):
    """The inpainting stage, with its model."""

    def __init__(self, inpainter: str, adapter: str | None, device: str) -> None:
        super().__init__(lambda: load_inpainter(inpainter, adapter=adapter, device=device), stages.inpaint)
