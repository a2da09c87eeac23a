"""From rows of scores, one for each example and model, to what a page says of them. No Ray, no models.

A row is a mapping with "example_id", "photo_id", the columns to break down by, one column that names the
model, and the scores. Nothing here knows what the models are: segmenters and inpainters go the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any, Self

import numpy as np

from textremove.statistics import Estimate, estimate_means

Row = Mapping[str, Any]
_SAME = 1e-9  # scores nearer than this are a tie


@dataclass(frozen=True, kw_only=True)
class Score:
    """One figure that models are given.

    Attributes:
        name: What it is called in results.
        label: What a person reads.
        column: The column of the rows; by default the name.
        weight: Column that says how much a row counts in the mean; "" for all alike.
        of_mean: A monotonic function that makes the figure from the mean, where it is not the mean itself.
        digits: Decimals worth showing.
    """

    name: str
    label: str
    column: str = ""
    weight: str = ""
    of_mean: Callable[[float], float] | None = None
    digits: int = 3

    @property
    def source(self) -> str:
        """The column of the rows."""
        return self.column or self.name


@dataclass(frozen=True, kw_only=True)
class Group:
    """Part of the rows: those with one value in one column.

    Attributes:
        column: The column.
        value: The value.
        num_examples: How many examples it has.
        num_photos: From how many photos.
        models: By model and score, as in Summary.
    """

    column: str
    value: str
    num_examples: int
    num_photos: int
    models: dict[str, dict[str, Estimate]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models on the same examples.

    Attributes:
        first: One model.
        second: The other.
        score: By which score.
        difference: Mean of first minus second, example by example.
        first_better: Share of the examples on which the first scores higher, in [0, 1].
        second_better: Share on which the second does; the rest are ties.
    """

    first: str
    second: str
    score: str
    difference: Estimate
    first_better: float
    second_better: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What rows of scores come to.

    Attributes:
        num_examples: How many examples were scored.
        num_photos: From how many photos.
        models: By model, in the order of the rows, then by the name of the score.
        groups: Breakdowns, in reading order; groups without examples are left out.
        pairs: Paired comparisons, every model with every later one or all with one.
    """

    num_examples: int = 0
    num_photos: int = 0
    models: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    groups: Sequence[Group] = ()
    pairs: Sequence[Pair] = ()

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Only the means, by model and score."""
        return {
            model: {name: estimate.mean for name, estimate in scores.items()}
            for model, scores in self.models.items()
        }

    def with_scores(self, name: str, values: Mapping[str, float]) -> Self:
        """The same with one more score, which is no mean over rows and has no interval, by model."""
        models = dict(self.models)
        for model, value in values.items():
            of_all = max(models[model].values(), key=lambda score: score.num_rows)  # success is of fewer
            models[model] = models[model] | {name: replace(of_all, mean=value, low=None, high=None)}
        return replace(self, models=models)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return asdict(self)

    def score_rows(self) -> list[dict[str, Any]]:
        """One flat row for each model and score, of all examples and then of each group: a table's rows."""
        parts = [
            ("", "all", self.models),
            *((group.column, group.value, group.models) for group in self.groups),
        ]
        return [
            {"group": column, "value": value, "model": model, "score": name} | asdict(estimate)
            for column, value, models in parts
            for model, scores in models.items()
            for name, estimate in scores.items()
        ]

    def pair_rows(self) -> list[dict[str, Any]]:
        """One flat row for each paired comparison."""
        return [
            {name: value for name, value in asdict(pair).items() if name != "difference"}
            | asdict(pair.difference)
            for pair in self.pairs
        ]


def summarise(
    rows: Sequence[Row],
    *,
    model: str,
    scores: Sequence[Score],
    by: Mapping[str, Sequence[str]],
    paired: Sequence[str],
    against: str = "",
    seed: int = 0,
) -> Summary:
    """Means with intervals, over all rows and broken down, and paired comparisons.

    Args:
        rows: The rows of scores; none gives an empty summary.
        model: The column that names the model.
        scores: What to take means of. A score that a row lacks, or has as None, leaves the row out of it.
        by: Columns to break down by, each with its values in reading order.
        paired: Columns to compare models by; higher is better.
        against: The model to compare every other with, where it is among them; else all with each other.
        seed: Of the draws behind the intervals.
    """
    if not rows:
        return Summary()
    groups = []
    for column, values in by.items():
        for value in values:
            within = [row for row in rows if row[column] == value]
            if within:
                num_examples, num_photos = _counts(within)
                groups.append(
                    Group(
                        column=column,
                        value=value,
                        num_examples=num_examples,
                        num_photos=num_photos,
                        models=_estimates(within, model, scores, seed),
                    )
                )
    num_examples, num_photos = _counts(rows)
    return Summary(
        num_examples=num_examples,
        num_photos=num_photos,
        models=_estimates(rows, model, scores, seed),
        groups=groups,
        pairs=_pairs(rows, model, paired, against, seed),
    )


def extremes(rows: Sequence[Row], *, score: str, count: int) -> dict[str, list[Row]]:
    """Chooses the best, worst and median rows of one model: no example twice, and no photo if that can be.

    Args:
        rows: Rows of one model.
        score: The column to go by; equal scores go by example id.
        count: How many of each; fewer where there are not three times as many rows.

    Returns:
        Rows by "best" (best first), "median" (the nearest to it first) and "worst" (worst first).
    """
    ordered = sorted(
        (row for row in rows if not math.isnan(_value(row, score))),
        key=lambda row: (-row[score], row["example_id"]),
    )
    apart = "photo_id" if len({row["photo_id"] for row in ordered}) >= 3 * count else "example_id"
    count = min(count, math.ceil(len(ordered) / 3))
    middle = (len(ordered) - 1) / 2
    outwards = sorted(range(len(ordered)), key=lambda k: abs(k - middle))
    taken: set[Any] = set()
    chosen: dict[str, list[Row]] = {"best": [], "median": [], "worst": []}
    for kind, order in (
        ("best", ordered),
        ("worst", ordered[::-1]),
        ("median", [ordered[k] for k in outwards]),
    ):
        for row in order:
            if len(chosen[kind]) < count and row[apart] not in taken:
                chosen[kind].append(row)
                taken.add(row[apart])
    return chosen


def columns_of(rows: Sequence[Row], model: str, column: str) -> dict[str, np.ndarray]:
    """Values of one column by model, float (rows,), rows without a value left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row[model], []).append(_value(row, column))
    return {name: (array := np.array(found))[~np.isnan(array)] for name, found in values.items()}


def _counts(rows: Sequence[Row]) -> tuple[int, int]:
    return len({row["example_id"] for row in rows}), len({row["photo_id"] for row in rows})


def _value(row: Row, column: str) -> float:
    value = row.get(column)
    return math.nan if value is None else float(value)


def _estimates(
    rows: Sequence[Row], model: str, scores: Sequence[Score], seed: int
) -> dict[str, dict[str, Estimate]]:
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        by_model.setdefault(row[model], []).append(row)
    estimates = {}
    for name, group in by_model.items():
        found = estimate_means(
            np.array([[_value(row, score.source) for score in scores] for row in group]),
            np.array([row["photo_id"] for row in group]),
            weights_NQ=np.array(
                [[_value(row, score.weight) if score.weight else 1.0 for score in scores] for row in group]
            ),
            seed=seed,
        )
        estimates[name] = {
            score.name: _transformed(estimate, score)
            for score, estimate in zip(scores, found, strict=True)
            if estimate is not None
        }
    return estimates


def _transformed(estimate: Estimate, score: Score) -> Estimate:
    if score.of_mean is None:
        return estimate
    low = high = None
    if estimate.low is not None and estimate.high is not None:
        low, high = sorted((score.of_mean(estimate.low), score.of_mean(estimate.high)))
    return Estimate(
        mean=score.of_mean(estimate.mean),
        low=low,
        high=high,
        num_rows=estimate.num_rows,
        num_clusters=estimate.num_clusters,
    )


def _pairs(rows: Sequence[Row], model: str, columns: Sequence[str], against: str, seed: int) -> list[Pair]:
    models = list(dict.fromkeys(row[model] for row in rows))
    compared = list(combinations(models, 2))
    if against in models:
        compared = [(name, against) for name in models if name != against]
    photos = {row["example_id"]: row["photo_id"] for row in rows}
    pairs = []
    for column in columns:
        values: dict[str, dict[str, float]] = {name: {} for name in models}
        for row in rows:
            values[row[model]][row["example_id"]] = _value(row, column)
        for first, second in compared:
            shared = [example for example in values[first] if example in values[second]]
            differences = np.array([values[first][k] - values[second][k] for k in shared])
            difference = estimate_means(
                differences[:, None], np.array([photos[example] for example in shared]), seed=seed
            )[0]
            if difference is not None:
                there = differences[~np.isnan(differences)]
                pairs.append(
                    Pair(
                        first=first,
                        second=second,
                        score=column,
                        difference=difference,
                        first_better=float((there > _SAME).mean()),
                        second_better=float((there < -_SAME).mean()),
                    )
                )
    return pairs
