"""How well inpainters filled holes: sections of the evaluation page."""

from __future__ import annotations

from textremove.inpaint.metrics import psnr
from textremove.report.page import Section
from textremove.report.score_figures import ViolinRow, violin_chart
from textremove.report.scores import Scored, group_chart, group_table, pair_chart, pair_table, score_table
from textremove.scores import Score, columns_of

PSNR = Score(name="psnr", label="PSNR in the mask (dB)", digits=2)
INPAINT_SCORES = (
    PSNR,
    Score(
        name="pooled_psnr", label="PSNR over all pixels (dB)", column="squared_error", weight="num_pixels",
        of_mean=psnr, digits=2,
    ),
    Score(name="seconds", label="seconds per photo"),
)  # fmt: skip
INPAINT_PAIRED = ("psnr",)


def inpaint_sections(scored: Scored) -> list[Section]:
    """Lays out the scores of inpainters."""
    return [_filling(scored), _groups(scored)]


def _filling(scored: Scored) -> Section:
    values = columns_of(scored.rows, "inpainter", "psnr")
    violins = [ViolinRow(label=name, values={PSNR.label: values[name]}) for name in scored.summary.models]
    pairs = [pair_chart(scored.summary, PSNR)] if scored.summary.pairs else []
    return Section(
        title="Filling the hole",
        text=[
            "With the true masks and the same seed for every inpainter, so that only the filling is measured "
            "by its peak signal-to-noise ratio against the truth inside the mask; higher is better. It likes "
            "a blurred filling better than a sharp one that is a little off."
        ],
        figures=[violin_chart(violins), *pairs],
        tables=[
            score_table(
                scored.summary, INPAINT_SCORES, heading="inpainter",
                caption=f"Means over {scored.measured_on}; over all pixels, large holes count for more.",
            ),
            *(
                [pair_table(scored.summary, PSNR, caption=f"First minus second, {PSNR.label}, by example.")]
                if pairs
                else []
            ),
        ],
    )  # fmt: skip


def _groups(scored: Scored) -> Section:
    return Section(
        title="Filling by class and size",
        figures=[group_chart(scored.summary, PSNR)],
        tables=[group_table(scored.summary, PSNR, caption=f"Mean {PSNR.label}, {scored.measured_on}.")],
    )
