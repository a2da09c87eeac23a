from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from textremove.inpaint.metrics import pooled_psnr, psnr
from textremove.scores import Score, columns_of, extremes, summarise

DICE = Score(name="dice", label="Dice")


def rows(count: int, *, shift: float = 0.0, noise: float = 0.0, per_photo: int = 2) -> list[dict[str, Any]]:
    """Rows of the models "a" and "b"; b scores `shift` lower on every example, give or take noise."""
    random = np.random.default_rng(0)
    made = []
    for k in range(count):
        value = float(random.random())
        about = {
            "example_id": f"e{k:03d}", "photo_id": f"p{k // per_photo:03d}",
            "group": ("odd" if k % 2 else "even"),
        }  # fmt: skip
        made.append(about | {"model": "a", "dice": value})
        made.append(about | {"model": "b", "dice": value - shift - noise * float(random.random())})
    return made


def summary(given: list[dict[str, Any]], scores: tuple[Score, ...] = (DICE,)) -> Any:
    groups = {"group": ("even", "odd", "never")}
    return summarise(given, model="model", scores=scores, by=groups, paired=("dice",))


def test_means_are_of_every_row_of_a_model() -> None:
    given = rows(20, shift=0.1)
    made = summary(given)
    for model in "ab":
        values = [row["dice"] for row in given if row["model"] == model]
        assert made.means[model]["dice"] == pytest.approx(np.mean(values))
    assert (made.num_examples, made.num_photos) == (20, 10)


def test_a_score_of_all_rows_together_is_added_without_an_interval() -> None:
    made = summary(rows(20)).with_scores("fid", {"a": 7.5})
    added = made.models["a"]["fid"]
    assert (added.mean, added.low, added.high, added.num_rows) == (7.5, None, None, 20)
    assert "dice" in made.models["a"]
    assert "fid" not in made.models["b"]


def test_groups_come_in_the_order_given_and_empty_ones_not_at_all() -> None:
    given = rows(21)
    made = summary(given)
    assert [(g.column, g.value, g.num_examples) for g in made.groups] == [
        ("group", "even", 11), ("group", "odd", 10),
    ]  # fmt: skip
    odd = [row["dice"] for row in given if row["group"] == "odd" and row["model"] == "a"]
    assert made.groups[1].models["a"]["dice"].mean == pytest.approx(np.mean(odd))


def test_pairing_sees_a_constant_shift_that_the_scores_alone_hide() -> None:
    made = summary(rows(60, shift=0.02, noise=0.01))
    (pair,) = made.pairs
    a, b = (made.models[name]["dice"] for name in "ab")
    assert b.low < a.mean < b.high  # side by side, one cannot tell
    assert (pair.first, pair.second) == ("a", "b")
    assert 0.02 < pair.difference.low < pair.difference.mean < pair.difference.high < 0.03
    assert (pair.first_better, pair.second_better) == (1.0, 0.0)


def test_ties_are_nobodys_win() -> None:
    (pair,) = summary(rows(12)).pairs
    assert (pair.first_better, pair.second_better, pair.difference.mean) == (0.0, 0.0, 0.0)


def test_a_pair_compares_only_what_both_were_scored_on() -> None:
    given = [row for row in rows(12, shift=0.1) if row["model"] == "a" or row["example_id"] < "e006"]
    (pair,) = summary(given).pairs
    assert pair.difference.num_rows == 6
    assert pair.difference.mean == pytest.approx(0.1)


def test_a_figure_made_of_the_mean_is_pooled_over_pixels() -> None:
    score = Score(name="pooled", label="PSNR", column="error", weight="pixels", of_mean=psnr)
    given = [row | {"error": 100.0 + k, "pixels": 10 + k} for k, row in enumerate(rows(20))]
    estimate = summary(given, (score,)).models["a"]["pooled"]
    of_a = [row for row in given if row["model"] == "a"]
    pooled = pooled_psnr((row["error"] for row in of_a), (row["pixels"] for row in of_a))
    assert estimate.mean == pytest.approx(pooled)
    assert estimate.low < estimate.mean < estimate.high  # although a larger error is a smaller PSNR


def test_a_score_that_is_nowhere_is_left_out() -> None:
    given = [row | {"lpips": None} for row in rows(8)]
    made = summary(given, (DICE, Score(name="lpips", label="LPIPS"), Score(name="absent", label="?")))
    assert list(made.models["a"]) == ["dice"]


def test_one_example_and_none() -> None:
    made = summary(rows(1))
    assert made.models["a"]["dice"].low is None
    assert made.pairs[0].difference.num_rows == 1
    assert summary([]).models == {}


def test_everything_goes_into_json_and_flat_tables() -> None:
    made = summary(rows(20, shift=0.1))
    assert json.loads(json.dumps(made.as_json()))["models"]["a"]["dice"]["num_rows"] == 20
    table = made.score_rows()
    assert [(row["value"], row["model"]) for row in table] == [
        (value, model) for value in ("all", "even", "odd") for model in "ab"
    ]
    assert table[0]["mean"] == made.means["a"]["dice"]
    assert made.pair_rows()[0]["mean"] == pytest.approx(0.1)


def test_extremes_are_the_extremes_of_different_photos() -> None:
    given = [row for row in rows(40) if row["model"] == "a"]
    chosen = extremes(given, score="dice", count=3)
    values = sorted((row["dice"] for row in given), reverse=True)
    assert chosen["best"][0]["dice"] == values[0]
    assert chosen["worst"][0]["dice"] == values[-1]
    assert chosen["median"][0]["dice"] in values[15:25]
    assert [len(group) for group in chosen.values()] == [3, 3, 3]
    photos = [row["photo_id"] for group in chosen.values() for row in group]
    assert len(set(photos)) == 9


@pytest.mark.parametrize(("count", "kinds"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (5, (2, 1, 2))])
def test_few_examples_are_shown_once_each(count: int, kinds: tuple[int, ...]) -> None:
    given = [row for row in rows(count) if row["model"] == "a"]
    chosen = extremes(given, score="dice", count=4)
    assert tuple(map(len, chosen.values())) == kinds
    ids = [row["example_id"] for group in chosen.values() for row in group]
    assert len(ids) == len(set(ids)) == count


def test_columns_are_by_model_and_without_gaps() -> None:
    given = rows(4)
    given[0]["dice"] = None
    columns = columns_of(given, "model", "dice")
    assert [len(columns["a"]), len(columns["b"])] == [3, 4]
