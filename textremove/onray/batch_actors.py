"""The stages of a batch that hold a model: one process each, the model loaded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from textremove.attempts import RemovalConfig
from textremove.errors import UserError
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions
from textremove.inpaint.protocol import Inpainter
from textremove.onray import stages
from textremove.presets import load_inpainter, load_segmenter
from textremove.segment.protocol import Segmenter


class _ModelActor:
    """A model, or a few, loaded once; a mistake of the user in loading it is told through the rows."""

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
    """The inpainting stage, with its inpainter, and with a segmenter of its own to look at what came out.

    Args:
        segmenter: Preset or folder; "" when nothing is to be verified.
        inpainter: Preset, folder or hub id.
        adapter: Folder.
        num_steps: See `load_inpainter`.
        options: See `load_inpainter`.
        fill: How holes are cut out and pasted back.
        removal: How hard to try.
        device: Where the models run.
    """

    def __init__(
        self,
        *,
        segmenter: str,
        inpainter: str,
        adapter: str | None,
        num_steps: int | None,
        options: DiffusionOptions,
        fill: FillConfig,
        removal: RemovalConfig,
        device: str,
    ) -> None:
        def load() -> tuple[Inpainter, Segmenter | None]:
            return (
                load_inpainter(
                    inpainter, adapter=adapter, num_steps=num_steps, options=options, device=device
                ),
                load_segmenter(segmenter, device=device) if segmenter else None,
            )

        super().__init__(load, lambda rows, models: stages.inpaint(rows, *models, fill=fill, removal=removal))
