from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from textremove.images import decode_image
from textremove.report.figures import bar_chart, line_chart, mask_picture, overlay_mask
from textremove.report.machine import describe_machine
from textremove.report.page import Picture, PictureRow, Report, Section, Table, render_report, write_report


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def report(**fields: object) -> Report:
    section = Section(title="Results & more", **fields)  # type: ignore[arg-type]
    return Report(title="A run", lead="What came of it.", sections=[section], environment=[("Cores", "2")])


class Tags(HTMLParser):
    """Collects the opened tags, and fails on one closed out of order."""

    VOID = ("meta", "img", "link", "br", "path", "use", "rect", "stop", "image")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def parse(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def test_the_page_needs_no_other_file() -> None:
    rows = [PictureRow(pictures=[Picture(image=picture(), caption="input")], title="ball at the left")]
    chart = bar_chart({"train": 3.0}, title="Seconds")
    tags = parse(render_report(report(picture_rows=rows, figures=[chart])))
    for tag, attributes in tags.seen:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#"))


def test_pictures_are_embedded_pixel_for_pixel() -> None:
    image = picture(3)
    html = render_report(report(picture_rows=[PictureRow(pictures=[Picture(image=image)])]))
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    np.testing.assert_array_equal(decode_image(base64.b64decode(data)), image)


def test_text_is_escaped() -> None:
    html = render_report(report(text=["<script>alert(1)</script>"], code="a < b"))
    assert "<script>" not in html
    assert "a &lt; b" in html


def test_table_cells_are_formatted_by_kind() -> None:
    table = Table(
        columns=["model", "dice", "rows"], rows=[["ours", 0.81239, 12345], ["prior", None, 7]], best=0
    )
    html = render_report(report(tables=[table]))
    assert '<td class="number">0.812</td>' in html
    assert '<td class="number">12,345</td>' in html
    assert '<td class="number">–</td>' in html
    assert "<td>prior</td>" in html
    assert html.count('<tr class="best">') == 1


def test_every_section_can_be_reached_from_the_top() -> None:
    tags = parse(render_report(report()))
    ids = {attributes["id"] for _, attributes in tags.seen if "id" in attributes}
    links = [attributes["href"] for tag, attributes in tags.seen if tag == "a"]
    assert links == ["#results-more"]
    assert {str(link)[1:] for link in links} <= ids


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(report(), path)
    before = path.read_text("utf-8")
    broken = Picture(image=np.zeros((2, 2, 2, 2), np.uint8))
    with pytest.raises(Exception, match="shape|data type|dimension"):
        write_report(report(picture_rows=[PictureRow(pictures=[broken])]), path)
    assert path.read_text("utf-8") == before
    assert list(tmp_path.iterdir()) == [path]


def test_charts_are_svg_with_their_names_as_text_and_the_same_every_time() -> None:
    def draw() -> str:
        return line_chart(
            {"train": [(0, 1.0), (1, 0.5)], "val": [(0, 1.1), (1, 0.7)]},
            title="Loss", x_label="step", y_label="loss",
        )  # fmt: skip

    svg = draw()
    words = {(element.text or "").strip() for element in ElementTree.fromstring(svg).iter()}
    assert {"Loss", "step", "loss", "train", "val"} <= words
    assert draw() == svg


def test_bars_carry_their_values() -> None:
    svg = bar_chart({"prepare": 1.25, "train": 30.0}, title="Seconds", unit="s")
    assert "1.2 s" in svg
    assert "30.0 s" in svg


def test_overlay_changes_only_what_the_mask_covers() -> None:
    image, mask = picture(), np.zeros((12, 20), np.uint8)
    mask[3:8, 5:12] = 255
    tinted = overlay_mask(image, mask)
    np.testing.assert_array_equal(tinted[mask == 0], image[mask == 0])
    assert (tinted[mask == 255] != image[mask == 255]).any(axis=-1).all()
    assert tinted.dtype == np.uint8


def test_mask_picture_has_three_equal_channels() -> None:
    mask = np.array([[0, 255]], np.uint8)
    assert mask_picture(mask).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_the_machine_is_described_with_versions() -> None:
    described = dict(describe_machine(["numpy"]))
    assert described["Packages"] == f"numpy {np.__version__}"
    assert int(described["Cores"]) >= 1
    assert all(described.values())
