from __future__ import annotations

from dataclasses import replace

import numpy as np

from textremove.report.demo import DemoResults, ShownRemoval, before_after, demo_report, removal_row
from textremove.report.page import Table, render_report

IMAGE = np.full((8, 10, 3), 90, np.uint8)
MASK = np.zeros((8, 10), np.uint8)
MASK[2:5, 3:7] = 255


def shown(prompt: str, truth: np.ndarray | None = None) -> ShownRemoval:
    return ShownRemoval(prompt=prompt, image=IMAGE, mask=MASK, result=IMAGE + 1, truth=truth)


RESULTS = DemoResults(
    seconds={"make scenes": 12.0, "train the segmenter": 48.0},
    dataset={
        "rows_read": 1200,
        "examples_kept": 1190,
        "rejected": {"mask_empty": {"count": 10, "samples": ["a"]}},
        "splits": {"train": {"examples": 900}, "val": {"examples": 170}, "test": {"examples": 120}},
    },
    training=["Continued from the shipped weights for 2 epochs."],
    figure_one=[shown("ball at the center left"), shown("balls at the center")],
    segmenters=Table(columns=["segmenter", "dice"], rows=[["ours", 0.81], ["location prior", 0.4]], best=0),
    inpainters=Table(columns=["inpainter", "PSNR"], rows=[["LoRA", 24.5], ["base", 23.0], ["telea", 22.0]]),
    removals=[shown("tree at the top left", truth=IMAGE)],
    promotion="champion: version 1",
    batch={"ok": 11, "error: not_an_image": 1},
    http_request="curl http://127.0.0.1:8000/v1/removals",
    http_answer="200 OK",
    http=shown("star at the right"),
    runs=Table(columns=["run", "dice"], rows=[["segmenter-1", 0.81]]),
)


def test_the_page_shows_every_result() -> None:
    html = render_report(demo_report(RESULTS))
    for text in (
        "“ball at the center left”", "“balls at the center”", "“tree at the top left”", "“star at the right”",
        "location prior", "telea", "mask_empty", "1,190 examples kept", "not_an_image", "segmenter-1",
        "Continued from the shipped weights", "champion: version 1", "200 OK", "in 1.0 minutes",
        "train the segmenter", "Processor",
    ):  # fmt: skip
        assert text in html


def test_nothing_rejected_leaves_out_that_table() -> None:
    html = render_report(demo_report(replace(RESULTS, dataset={**RESULTS.dataset, "rejected": {}})))
    assert "rejected because" not in html


def test_a_removal_shows_its_truth_where_there_is_one() -> None:
    assert [picture.caption for picture in removal_row(shown("a")).pictures] == ["input", "found", "result"]
    assert removal_row(shown("a", truth=IMAGE)).pictures[-1].caption == "truth"


def test_before_and_after_leaves_out_what_was_not_found() -> None:
    nothing = replace(shown("fish at the top"), mask=np.zeros_like(MASK))
    one = before_after([shown("ball at the left"), nothing])
    two = before_after([shown("ball at the left"), shown("fish at the top")])
    assert one.dtype == np.uint8
    assert one.shape[0] == two.shape[0]
    assert one.shape[1] < two.shape[1]
