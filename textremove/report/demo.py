"""The demo's page: what the whole chain did to procedural scenes, in the order it did it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textremove.report.figures import bar_chart, mask_picture, overlay_mask, picture_grid
from textremove.report.machine import describe_machine
from textremove.report.page import Picture, PictureRow, Report, Section, Table
from textremove.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class ShownRemoval:
    """One removal to look at; pictures are RGB uint8 (height, width, 3), the mask uint8 (height, width).

    Attributes:
        prompt: What was asked for.
        image: The input.
        mask: What was found.
        result: The input without it.
        truth: What really was behind it, or None where nobody knows.
    """

    prompt: str
    image: np.ndarray
    mask: np.ndarray
    result: np.ndarray
    truth: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class DemoResults:
    """What the demo's steps came to.

    Attributes:
        seconds: Duration of each step by its name, in the order they ran.
        dataset: The prepared folder's dataset.json.
        training: Sentences on what was trained, from which weights and how far.
        figure_one: One picture asked two ways: one object, and both.
        segmenters: Scores of every segmenter on the same test examples.
        inpainters: Scores of every inpainter on the same test examples with the true masks.
        removals: Removals of test objects, found by the trained segmenter.
        promotion: Lines that `promote` printed.
        batch: Counts of inputs by what became of them.
        http_request: The request as a person would type it.
        http_answer: Status and headers of the answer.
        http: The removal that came back over HTTP.
        runs: The runs side by side, from MLflow.
    """

    seconds: Mapping[str, float]
    dataset: Mapping[str, Any]
    training: Sequence[str]
    figure_one: Sequence[ShownRemoval]
    segmenters: Table
    inpainters: Table
    removals: Sequence[ShownRemoval]
    promotion: str
    batch: Mapping[str, int]
    http_request: str
    http_answer: str
    http: ShownRemoval
    runs: Table


def demo_report(results: DemoResults) -> Report:
    """Lays the demo's results out as a page.

    Args:
        results: What the steps came to.

    Returns:
        The page, for `textremove.report.page.write_report`.
    """
    total = sum(results.seconds.values())
    return Report(
        title="Objects removed by naming them",
        lead=(
            f"From made-up scenes to an HTTP answer in {total / 60:.1f} minutes: data prepared, a segmenter "
            "and an inpainter trained, measured and promoted, a folder cleaned, a service started and asked, "
            "through the same Ray and MLflow jobs that run at full size."
        ),
        sections=[
            _figure_one(results),
            _removals(results),
            _finding(results),
            _filling(results),
            _data(results),
            _runs(results),
            _batch_and_http(results),
            _seconds(results),
        ],
        environment=describe_machine(),
    )


def removal_row(shown: ShownRemoval) -> PictureRow:
    """Puts a removal side by side: input, mask over it, result, truth where there is one."""
    pictures = [
        Picture(image=shown.image, caption="input"),
        Picture(
            image=overlay_mask(shown.image, shown.mask),
            caption="found" if shown.mask.any() else "nothing found",
        ),
        Picture(image=shown.result, caption="result"),
    ]
    if shown.truth is not None:
        pictures.append(Picture(image=shown.truth, caption="truth"))
    return PictureRow(title=f"“{shown.prompt}”", pictures=pictures)


def before_after(removals: Sequence[ShownRemoval], *, count: int = 5) -> np.ndarray:
    """Draws inputs over results, each pair under its prompt: the README's first picture.

    Args:
        removals: Those where nothing was found are left out.
        count: At most so many pairs.

    Returns:
        RGB uint8 (height, width, 3).
    """
    shown = [removal for removal in removals if removal.mask.any()][:count]
    return picture_grid(
        [[removal.image for removal in shown], [removal.result for removal in shown]],
        columns=[removal.prompt for removal in shown],
        rows=["before", "after"],
    )


def _figure_one(results: DemoResults) -> Section:
    rows = [
        PictureRow(
            title=f"“{shown.prompt}”",
            pictures=[
                Picture(image=shown.image, caption="input"),
                Picture(image=mask_picture(shown.mask), caption="mask"),
                Picture(image=shown.result, caption="result"),
            ],
        )
        for shown in results.figure_one
    ]
    return Section(
        title="One picture, two prompts",
        text=["The paper's Figure 1 in small: the words decide whether one object goes or both."],
        picture_rows=rows,
    )


def _removals(results: DemoResults) -> Section:
    return Section(
        title="Removals",
        text=[
            "One object of each of the first test scenes, good or bad, none of which the models have seen: "
            "found by the prompt alone, then filled."
        ],
        picture_rows=[removal_row(shown) for shown in results.removals],
    )


def _finding(results: DemoResults) -> Section:
    return Section(
        title="Finding the object",
        text=[
            *results.training,
            "The location prior answers with the mean training box of the place words and never looks at the "
            "picture: what is above it, the model saw.",
        ],
        tables=[results.segmenters],
    )


def _filling(results: DemoResults) -> Section:
    return Section(
        title="Filling the hole",
        text=[
            "With the true masks, so that only the filling is measured: the peak signal-to-noise ratio "
            "between filling and truth inside the mask, in decibels, higher is better."
        ],
        tables=[results.inpainters],
    )


def _data(results: DemoResults) -> Section:
    info = results.dataset
    splits = Table(
        columns=["split", "examples"],
        rows=[[name, info["splits"][name]["examples"]] for name in SPLITS],
        caption="Split by photo, decided by a hash of its name: the same on every machine.",
    )
    rejected = Table(
        columns=["rejected because", "rows"],
        rows=[[reason, entry["count"]] for reason, entry in info["rejected"].items()],
    )
    return Section(
        title="Data",
        text=[f"{info['rows_read']:,} rows read, {info['examples_kept']:,} examples kept."],
        tables=[splits, rejected] if rejected.rows else [splits],
    )


def _runs(results: DemoResults) -> Section:
    return Section(
        title="Runs and promotion",
        text=["Every step that trains or measures is a run in MLflow; the better model is given the alias."],
        tables=[results.runs],
        code=results.promotion,
    )


def _batch_and_http(results: DemoResults) -> Section:
    batch = Table(
        columns=["outcome", "photos"],
        rows=list(results.batch.items()),
        caption="Batch removal of a folder: every input has one row in the manifest, whatever became of it.",
    )
    return Section(
        title="Batch and HTTP",
        tables=[batch],
        code=f"{results.http_request}\n\n{results.http_answer}",
        picture_rows=[removal_row(results.http)],
    )


def _seconds(results: DemoResults) -> Section:
    chart = bar_chart(results.seconds, title="Seconds for each step, Ray's own start-up included", unit="s")
    return Section(title="Where the time went", figures=[chart])
