"""A report as plain data, and its rendering into one HTML file with every picture inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from textremove.atomic import atomic_file
from textremove.images import encode_image
from textremove.statistics import Estimate


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture with a caption under it.

    Attributes:
        image: RGB uint8 (height, width, 3).
        caption: A few words; may be empty.
        format: "png" keeps every pixel, "jpeg" keeps the file small.
    """

    image: np.ndarray
    caption: str = ""
    format: str = "png"


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """Pictures that belong side by side, such as input, mask, result and truth.

    Attributes:
        pictures: From left to right.
        title: What the row shows, such as the prompt; may be empty.
    """

    pictures: Sequence[Picture]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures in rows. Numbers are set to the right, everything else to the left.

    Attributes:
        columns: Headings.
        rows: As many cells each as there are columns; None is shown as a dash, floats with `digits`, an
            Estimate as its mean with its interval in brackets.
        caption: One sentence that says what was measured and on what.
        best: Index of the row to set off, or None.
        digits: Decimals of floats; one number for all columns, or one each.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    best: int | None = None
    digits: int | Sequence[int] = 3

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether numbers are in it: those are set to the right, their gaps too."""
        return [any(_is_number(row[k]) for row in self.rows) for k in range(len(self.columns))]

    def digits_of(self, column: int) -> int:
        """Decimals of floats in one column."""
        return self.digits if isinstance(self.digits, int) else self.digits[column]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what is under it, in the order of the fields.

    Attributes:
        title: The heading.
        text: Paragraphs of plain text.
        tables: Tables.
        figures: SVG documents, as `textremove.report.figures` makes them.
        picture_rows: Rows of pictures.
        code: Lines as a person would type them or a program answered them; may be empty.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[str] = ()
    picture_rows: Sequence[PictureRow] = ()
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole page.

    Attributes:
        title: The heading of the page.
        lead: One paragraph that says what was done and how it came out.
        sections: In reading order; the first is shown under the lead.
        environment: What it ran on: names and values, shown at the end.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    environment: Sequence[tuple[str, str]] = ()


def render_report(report: Report) -> str:
    """Renders a report to HTML that needs no other file and no network.

    Args:
        report: What to show.

    Returns:
        The HTML document.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("textremove.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(data_uri=_data_uri, cell=_cell, svg=_inline_svg, slug=_slug)
    return environment.get_template("report.html.j2").render(report=report)


def write_report(report: Report, path: Path | str) -> None:
    """Writes a report to one HTML file; it appears whole or not at all.

    Args:
        report: What to show.
        path: The file to write.
    """
    html = render_report(report)
    with atomic_file(path) as partial:
        partial.write_text(html, encoding="utf-8")


def _data_uri(picture: Picture) -> str:
    data = base64.b64encode(encode_image(picture.image, format=picture.format)).decode("ascii")
    return f"data:image/{picture.format};base64,{data}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number | Estimate) and not isinstance(value, bool)


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, Estimate):
        mean = f"{value.mean:z,.{digits}f}"
        if value.low is None or value.high is None:
            return mean
        interval = f"[{value.low:z,.{digits}f}, {value.high:z,.{digits}f}]"
        return Markup('{} <span class="interval">{}</span>').format(mean, interval)
    if isinstance(value, float | np.floating):
        return f"{value:,.{digits}f}"
    return f"{value:,}" if _is_number(value) else str(value)


def _inline_svg(svg: str) -> Markup:
    """Drops the XML prologue, which has no place inside HTML. The SVG is ours, so it is not escaped."""
    return Markup(svg[svg.index("<svg") :])


def _slug(title: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
