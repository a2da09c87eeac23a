"""Figures of scores as papers draw them: distributions, and means with their intervals. SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from textremove.report.figures import COLORS, INK, LINE, svg_text
from textremove.statistics import Estimate

_WIDTH = 7.2  # inches
_ROW = 0.3  # inches for each violin or group
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_LEGEND_LETTERS = 90  # that fit beside each other, each marker taking the room of eight
_FEW = 10  # values; a density drawn from fewer would be an invention, so they are shown one by one


@dataclass(frozen=True, kw_only=True)
class ViolinRow:
    """One row of violins.

    Attributes:
        label: What the row is, beside it.
        heading: Printed in bold above the row when it is another one than that of the row before.
        values: By panel, float (examples,).
    """

    label: str
    heading: str = ""
    values: Mapping[str, np.ndarray]


def violin_chart(rows: Sequence[ViolinRow], *, limits: tuple[float, float] | None = None) -> str:
    """Draws distributions as horizontal violins, one panel for each kind of value.

    A violin is as wide as values are frequent; in it the bar goes from the lower to the upper quartile, the
    white line is the median and the diamond the mean. Fewer than ten values are drawn as dots.

    Args:
        rows: From top to bottom; every row has the same panels.
        limits: Of the value axes; by default what the values need.

    Returns:
        An SVG document.
    """
    panels = list(rows[0].values)
    positions, headings = _positions([row.heading for row in rows])
    bottom = positions[-1] + 0.6
    layout = ConstrainedLayoutEngine(wspace=0.08)
    figure = Figure(figsize=(_WIDTH, _ROW * bottom + 0.75), layout=layout)
    FigureCanvasSVG(figure)
    colors = dict(zip(dict.fromkeys(row.label for row in rows), _cycle(COLORS, len(rows)), strict=False))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        first = panel == panels[0]
        for row, position in zip(rows, positions, strict=True):
            _violin(axes, row.values[panel], position, colors[row.label] if headings else COLORS[0])
        axes.set(ylim=(bottom, -0.6))
        if limits:
            axes.set_xlim(limits)
        axes.set_xlabel(panel, color=INK, fontsize=9.5)
        axes.set_yticks(positions, [row.label for row in rows] if first else [], parse_math=False)
        if first:
            for position, heading in headings:
                axes.text(
                    0.0, position, heading, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5,
                    fontweight="bold", color=INK, parse_math=False, backgroundcolor="white", zorder=6,
                )  # fmt: skip
        _plain(axes)
    return svg_text(figure)


def interval_chart(
    panels: Mapping[str, Mapping[str, Mapping[str, Estimate]]],
    *,
    x_label: str,
    reference: float | None = None,
) -> str:
    """Draws means as markers with their intervals as whiskers, in panels below each other on one scale.

    Args:
        panels: Title of a panel, "" for none, to label of a row to name of a series to its estimate. Series
            have their own colour and marker in all panels; a legend names them when there are several.
        x_label: What the means are of.
        reference: A value to draw a line at, such as no difference.

    Returns:
        An SVG document.
    """
    series = list(dict.fromkeys(name for rows in panels.values() for row in rows.values() for name in row))
    step = max(_ROW, 0.13 * len(series) + 0.1)
    heights = [step * len(rows) + (0.35 if title else 0.1) for title, rows in panels.items()]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.75), layout="constrained")
    FigureCanvasSVG(figure)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (title, rows) in zip(grid, panels.items(), strict=True):
        if title:
            axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color=INK, parse_math=False)
        for k, name in enumerate(series):
            offset = (k - (len(series) - 1) / 2) * min(0.2, 0.7 / len(series))
            drawn = [(y + offset, row[name]) for y, row in enumerate(rows.values()) if name in row]
            _intervals(axes, drawn, _cycle(COLORS, len(series))[k], _cycle(_MARKERS, len(series))[k])
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        _plain(axes)
    grid[-1].set_xlabel(x_label, color=INK, fontsize=9.5)
    if len(series) > 1:
        handles = [mpl.lines.Line2D([], [], color=color, marker=marker, markersize=5.5, linewidth=1.4)
                   for color, marker in zip(_cycle(COLORS, len(series)), _cycle(_MARKERS, len(series)),
                                            strict=True)]  # fmt: skip
        legend = figure.legend(
            handles,
            series,
            loc="outside upper left",
            frameon=False,
            fontsize=9,
            ncols=max(1, min(len(series), _LEGEND_LETTERS // (max(map(len, series)) + 8))),
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return svg_text(figure)


def _positions(headings: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where rows stand, and where the headings of groups of rows do: a row's height each, and a gap."""
    positions: list[float] = []
    placed: list[tuple[float, str]] = []
    y, before = 0.0, ""
    for heading in headings:
        if heading != before:
            y += 0.35 if positions else 0.0
            placed.append((y, heading))
            y, before = y + 0.85, heading
        positions.append(y)
        y += 1.0
    return positions, placed


def _violin(axes: mpl.axes.Axes, values: np.ndarray, position: float, color: str) -> None:
    if not len(values):
        return
    if len(values) < _FEW:
        axes.plot(values, np.full(len(values), position), "o", color=color, alpha=0.6, markersize=4.5)
    else:
        drawn: dict[str, Any] = axes.violinplot(
            values, [position], orientation="horizontal", widths=0.86, showextrema=False, points=200
        )
        for body in drawn["bodies"]:
            body.set(facecolor=color, edgecolor=color, alpha=0.32, linewidth=0.9)
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        axes.plot([low, high], [position] * 2, color=color, linewidth=5.0, solid_capstyle="butt", zorder=3)
        axes.plot([middle] * 2, [position - 0.17, position + 0.17], color="white", linewidth=1.8, zorder=4)
    axes.plot(values.mean(), position, "D", color="white", markeredgecolor=INK, markersize=4.6, zorder=5)


def _intervals(axes: mpl.axes.Axes, drawn: Sequence[tuple[float, Estimate]], color: str, marker: str) -> None:
    for y, estimate in drawn:
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [y, y], color=color, linewidth=1.6, zorder=2)
        axes.plot(
            estimate.mean, y, marker, color=color, markeredgecolor="white", markeredgewidth=0.6,
            markersize=6, zorder=3,
        )  # fmt: skip


def _cycle(values: Sequence[str], count: int) -> list[str]:
    return [values[k % len(values)] for k in range(count)]


def _plain(axes: mpl.axes.Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=0)
