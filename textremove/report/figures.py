"""Charts as SVG text, and pictures drawn over pictures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from textremove.images import resize_image

INK = "#1d2329"
LINE = "#dfe3e6"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#5b6670")
"""Told apart with any kind of colour vision: Okabe and Ito's, with a yellow that is seen on white."""

_BAR = "#2a6f6b"
_MASK_RGB = np.array([214, 64, 69], dtype=np.float32)


def bar_chart(values: Mapping[str, float], *, title: str, unit: str = "", digits: int = 1) -> str:
    """Draws one horizontal bar for each name, in the order given.

    Args:
        values: Length of each bar by its name.
        title: What the bars show.
        unit: Written after each value.
        digits: Decimals of the values.

    Returns:
        An SVG document.
    """
    figure, axes = _axes(height=0.9 + 0.34 * len(values), title=title)
    names = list(values)
    bars = axes.barh(names, list(values.values()), color=_BAR, height=0.62)
    axes.bar_label(bars, labels=[f"{values[n]:,.{digits}f} {unit}".strip() for n in names], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    return svg_text(figure)


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x_label: str, y_label: str
) -> str:
    """Draws one line for each name.

    Args:
        series: (x, y) points by name.
        title: What the lines show.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.

    Returns:
        An SVG document.
    """
    figure, axes = _axes(height=3.0, title=title)
    for index, (name, points) in enumerate(series.items()):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        marker = "o" if len(points) < 20 else None
        axes.plot(xs, ys, label=name, color=COLORS[index % len(COLORS)], marker=marker, markersize=3.5)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    if len(series) > 1:
        axes.legend(frameon=False)
    return svg_text(figure)


def overlay_mask(image: np.ndarray, mask: np.ndarray, *, opacity: float = 0.45) -> np.ndarray:
    """Tints what a mask covers in red, with a full red rim, so that the picture below stays visible.

    Args:
        image: RGB uint8 (height, width, 3).
        mask: uint8 (height, width), 255 = remove.
        opacity: Of the tint, in [0, 1].

    Returns:
        RGB uint8 (height, width, 3).
    """
    inside = mask > 127
    padded = np.pad(inside, 1)
    surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    weight = np.where(inside, opacity, 0.0)
    weight[inside & ~surrounded] = 1.0
    weight = weight[..., None].astype(np.float32)
    return (image * (1 - weight) + _MASK_RGB * weight).round().astype(np.uint8)


def outline_box(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Draws a dashed black and white frame just inside a box: seen on any ground.

    Args:
        image: RGB uint8 (height, width, 3).
        box: (left, top, right, bottom) in pixels, right and bottom exclusive.

    Returns:
        RGB uint8 (height, width, 3).
    """
    left, top, right, bottom = box
    height, width = image.shape[:2]
    thickness = max(1, round(max(height, width) / 200))
    frame = np.zeros((height, width), bool)
    frame[top:bottom, left:right] = True
    frame[top + thickness : bottom - thickness, left + thickness : right - thickness] = False
    rows, columns = np.indices((height, width))
    dash = ((rows + columns) // (4 * thickness)) % 2
    drawn = image.copy()
    drawn[frame] = np.where(dash[frame], 255, 0)[:, None]
    return drawn


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Scales a picture down so that its longer side is at most `side` pixels; a small one stays as it is."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    return resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))))


def mask_picture(mask: np.ndarray) -> np.ndarray:
    """Gives a mask three equal channels, to be shown as a picture.

    Args:
        mask: uint8 (height, width).

    Returns:
        RGB uint8 (height, width, 3).
    """
    return np.repeat(mask[..., None], 3, axis=2)


def picture_grid(
    pictures: Sequence[Sequence[np.ndarray]], *, columns: Sequence[str], rows: Sequence[str]
) -> np.ndarray:
    """Draws pictures in a grid with names over the columns and beside the rows.

    Args:
        pictures: By row, then column; RGB uint8 (height, width, 3).
        columns: Names of the columns.
        rows: Names of the rows.

    Returns:
        RGB uint8 (height, width, 3).
    """
    figure = Figure(figsize=(2.2 * len(columns) + 0.4, 2.2 * len(rows) + 0.4), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes_of_row, pictures_of_row, row in zip(grid, pictures, rows, strict=True):
        for axes, picture in zip(axes_of_row, pictures_of_row, strict=True):
            axes.imshow(picture, interpolation="lanczos")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_of_row[0].set_ylabel(row, fontsize=11, color=INK)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column, fontsize=10, color=INK)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _axes(*, height: float, title: str) -> tuple[Figure, mpl.axes.Axes]:
    # A Figure of its own, not pyplot's: nothing global is changed and no window system is looked for.
    figure = Figure(figsize=(7.2, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def svg_text(figure: Figure) -> str:
    """Writes a figure as an SVG document, the same on every run."""
    out = io.StringIO()
    # Letters stay letters: small, searchable, and set in the reader's own font. The salt makes the ids,
    # and so the file, the same on every run.
    # Names may be in any script: Matplotlib cannot measure letters that its font lacks, a browser has them.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "textremove"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
