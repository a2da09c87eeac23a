"""How well segmenters found objects: sections of the evaluation page."""

from __future__ import annotations

from collections.abc import Sequence

from textremove.report.cases import Case, case_row
from textremove.report.page import Section, Table
from textremove.report.score_figures import ViolinRow, violin_chart
from textremove.report.scores import Scored, group_chart, group_table, pair_chart, pair_table
from textremove.scores import Score, columns_of
from textremove.statistics import MIN_CLUSTERS

STRATEGIES = {"raw": "Raw vs Raw", "box": "Box vs Box", "raw_box": "Raw vs Box"}
BOX_DICE = Score(name="box_dice", label="Box vs Box Dice")
SEGMENT_SCORES = (
    BOX_DICE,
    Score(name="box_iou", label="Box vs Box IoU"),
    Score(name="raw_dice", label="Raw vs Raw Dice"),
    Score(name="raw_iou", label="Raw vs Raw IoU"),
    Score(name="raw_box_dice", label="Raw vs Box Dice"),
    Score(name="raw_box_iou", label="Raw vs Box IoU"),
    Score(name="found", label="share found"),
    Score(name="seconds", label="seconds per photo"),
)
SEGMENT_PAIRED = ("box_dice", "raw_dice")

PUBLISHED = {
    "CLIPSeg, the paper's baseline": (0.3736, 0.2821),
    "ConditionedUNet, the paper's": (0.4386, 0.3118),
}
"""Box vs Box Dice and IoU of the paper's Table 1, on its own test split of PIPE."""


def segment_sections(scored: Scored, cases: Sequence[Case]) -> list[Section]:
    """Lays out the scores of segmenters.

    Args:
        scored: Their scores.
        cases: Examples to look at, in the order shown.
    """
    pairs = [_pairs(scored)] if scored.summary.pairs else []
    return [_table_one(scored), _strategies(scored), _groups(scored), *pairs, _cases(scored, cases)]


def _table_one(scored: Scored) -> Section:
    published = "published, other data: the paper's test split of PIPE"
    rows: list[list[object]] = [[name, *scores, published] for name, scores in PUBLISHED.items()]
    for model, estimates in scored.summary.models.items():
        rows.append([model, estimates["box_dice"], estimates["box_iou"], f"here: {scored.measured_on}"])
    return Section(
        title="Box vs Box, beside the paper's Table 1",
        tables=[
            Table(
                columns=["segmenter", "Dice", "IoU", "measured on"],
                rows=rows,
                digits=[0, 4, 4, 0],
                caption="Mean Dice and IoU between the boxes around prediction and truth. The published rows "
                "were not measured here; they compare with the others only where the data is PIPE itself.",
            )
        ],
    )


def _strategies(scored: Scored) -> Section:
    models = scored.summary.models
    values = {
        (strategy, score): columns_of(scored.rows, "segmenter", f"{strategy}_{score}")
        for strategy in STRATEGIES
        for score in ("dice", "iou")
    }
    violins = [
        ViolinRow(
            heading=model,
            label=label,
            values={"Dice": values[strategy, "dice"][model], "IoU": values[strategy, "iou"][model]},
        )
        for model in models
        for strategy, label in STRATEGIES.items()
    ]
    agreement = Table(
        columns=["segmenter", "compared", "Dice", "IoU"],
        rows=[
            [model, label, estimates[f"{strategy}_dice"], estimates[f"{strategy}_iou"]]
            for model, estimates in models.items()
            for strategy, label in STRATEGIES.items()
        ],
        caption=f"Means over {scored.measured_on}.",
    )
    answers = Table(
        columns=["segmenter", "share found", "seconds per photo"],
        rows=[[model, estimates["found"], estimates["seconds"]] for model, estimates in models.items()],
        caption="In how many examples anything was found at all (every example has its object), and the time "
        "of one photo at a time in one process, beside the others that scored.",
    )
    return Section(
        title="Scores by strategy",
        text=[
            "Raw vs Raw compares the predicted pixel mask with the true mask. Box vs Box compares the boxes "
            "around the two: was the object located? Raw vs Box compares the predicted pixel mask, as it is, "
            "with the box around the true mask; even a perfect pixel mask loses in it what the object leaves "
            "free of its own box.",
            "In the figure a violin is as wide as scores are frequent; the bar in it goes from the lower to "
            "the upper quartile, the white line is the median and the diamond the mean. Fewer than ten "
            "examples are drawn as dots.",
        ],
        figures=[violin_chart(violins, limits=(-0.02, 1.02))],
        tables=[agreement, answers],
    )


def _groups(scored: Scored) -> Section:
    return Section(
        title="By class, size and place",
        text=[
            "The same Box vs Box Dice for parts of the examples; in the figure their number is in brackets. "
            f"Parts of fewer than {MIN_CLUSTERS} photos have no interval."
        ],
        figures=[group_chart(scored.summary, BOX_DICE)],
        tables=[
            group_table(scored.summary, BOX_DICE, caption=f"Mean Box vs Box Dice, {scored.measured_on}.")
        ],
    )


def _pairs(scored: Scored) -> Section:
    caption = "First minus second, {}, example by example."
    return Section(
        title="Segmenters on the same examples",
        text=[
            "Scores are subtracted example by example, so that what makes an example hard for both drops "
            "out. Where the interval leaves out zero, the difference is unlikely to be the luck of these "
            "photos."
        ],
        figures=[pair_chart(scored.summary, BOX_DICE)],
        tables=[
            pair_table(scored.summary, score, caption=caption.format(score.label))
            for score in SEGMENT_SCORES
            if score.name in SEGMENT_PAIRED
        ],
    )  # fmt: skip


def _cases(scored: Scored, cases: Sequence[Case]) -> Section:
    first = next(iter(scored.summary.models))
    return Section(
        title="Best, median and worst cases",
        text=[
            f"Chosen by the Box vs Box Dice of {first}, each from another photo where there are enough. Red: "
            "the pixel mask; dashed: the box around it. Under each prediction: its Box vs Box and its Raw vs "
            "Raw Dice."
        ],
        picture_rows=[case_row(case) for case in cases],
    )
