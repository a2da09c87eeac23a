"""Parts of a page that say how models scored, whatever the models are: tables and figures of a Summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textremove.report.page import Table
from textremove.report.score_figures import interval_chart
from textremove.scores import Row, Score, Summary
from textremove.statistics import Estimate

_GROUP_TITLES = {
    "class_group": "class",
    "shape_group": "things",
    "size_group": "size",
    "place_group": "place",
}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Models scored on a split.

    Attributes:
        split: Which split.
        rows: Rows of scores, one for each example and model.
        summary: What they come to.
    """

    split: str
    rows: Sequence[Row]
    summary: Summary

    @property
    def measured_on(self) -> str:
        """What was scored, in words: "200 examples of 81 photos, test split"."""
        number, photos = self.summary.num_examples, self.summary.num_photos
        return (
            f"{number:,} example{'s' if number != 1 else ''} of "
            f"{photos:,} photo{'s' if photos != 1 else ''}, {self.split} split"
        )


def score_table(summary: Summary, scores: Sequence[Score], *, heading: str, caption: str) -> Table:
    """Lays out one row for each model and one column for each score, with intervals.

    Args:
        summary: Of the models.
        scores: The columns.
        heading: What the models are: "segmenter".
        caption: What was measured and on what.
    """
    return Table(
        columns=[heading, *(score.label for score in scores)],
        rows=[
            [model, *(estimates.get(score.name) for score in scores)]
            for model, estimates in summary.models.items()
        ],
        caption=caption,
        digits=[0, *(score.digits for score in scores)],
    )


def group_table(summary: Summary, score: Score, *, caption: str) -> Table:
    """Lays out one score by group: a row for each group, a column for each model."""
    models = list(summary.models)
    parts = [
        ("all", summary.num_examples, summary.models),
        *(
            (f"{_GROUP_TITLES.get(g.column, g.column)}: {g.value}", g.num_examples, g.models)
            for g in summary.groups
        ),
    ]
    return Table(
        columns=["group", "examples", *models],
        rows=[
            [label, examples, *(scores.get(model, {}).get(score.name) for model in models)]
            for label, examples, scores in parts
        ],
        caption=caption,
        digits=score.digits,
    )


def group_chart(summary: Summary, score: Score) -> str:
    """Draws one score by group, one panel for each way of grouping. SVG."""
    panels: dict[str, dict[str, dict[str, Estimate]]] = {}
    for group in summary.groups:
        panel = panels.setdefault(_GROUP_TITLES.get(group.column, group.column), {})
        panel[f"{group.value} ({group.num_examples:,})"] = {
            model: estimates[score.name]
            for model, estimates in group.models.items()
            if score.name in estimates
        }
    return interval_chart(panels, x_label=score.label)


def pair_table(summary: Summary, score: Score, *, caption: str) -> Table:
    """Lays out the paired comparisons by one score."""
    return Table(
        columns=["first", "second", "mean difference", "first better (%)", "second better (%)", "tie (%)"],
        rows=[
            [
                pair.first,
                pair.second,
                pair.difference,
                100 * pair.first_better,
                100 * pair.second_better,
                100 * max(0.0, 1 - pair.first_better - pair.second_better),
            ]
            for pair in summary.pairs
            if pair.score == score.name
        ],
        caption=caption,
        digits=[0, 0, score.digits, 1, 1, 1],
    )


def pair_chart(summary: Summary, score: Score) -> str:
    """Draws the mean differences of the paired comparisons by one score around zero. SVG."""
    rows: Mapping[str, Mapping[str, Estimate]] = {
        f"{pair.first} − {pair.second}": {"": pair.difference}
        for pair in summary.pairs
        if pair.score == score.name
    }
    return interval_chart({"": rows}, x_label=f"difference in {score.label}", reference=0.0)


def with_interval(estimate: Estimate, digits: int) -> str:
    """Says an estimate in a sentence: "0.843 [0.821, 0.864]"."""
    mean = f"{estimate.mean:z.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return mean
    return f"{mean} [{estimate.low:z.{digits}f}, {estimate.high:z.{digits}f}]"
