"""Examples of what is not there."""

from __future__ import annotations

from typing import Any

from textremove.pipe.absent import AbsentExamples

CLASSES = {"ball": 700, "balls": 100, "tree": 150, "car": 50}


def _rows(num: int = 2000, **changes: Any) -> list[dict[str, Any]]:
    row = {
        "object_class": "ball",
        "place": "top left",
        "prompt": "ball at the top left",
        "image": b"photo",
        "truth": b"photo without it",
        "mask": b"mask",
    }
    return [{"example_id": f"SCENES/{k}/0", **row, **changes} for k in range(num)]


def test_a_share_of_the_examples_has_nothing_in_it_and_the_rest_is_as_it_was() -> None:
    rows = _rows()
    shown = [AbsentExamples(share=0.3, classes=CLASSES).apply(row) for row in rows]
    absent = [row for row in shown if row["mask"] is None]
    assert abs(len(absent) / len(rows) - 0.3) < 0.03
    assert all(new == old for new, old in zip(shown, rows, strict=True) if new["mask"] is not None)
    emptied = [row for row in absent if row["image"] == b"photo without it"]
    assert abs(len(emptied) / len(absent) - 1 / 3) < 0.08
    assert {row["prompt"] for row in emptied} == {"ball at the top left"}


def test_other_classes_keep_the_place_and_come_as_often_as_they_occur() -> None:
    absent = [AbsentExamples(share=1.0, classes=CLASSES).apply(row) for row in _rows()]
    prompts = [row["prompt"] for row in absent if row["image"] == b"photo"]
    assert set(prompts) == {"tree at the top left", "car at the top left"}  # "balls" may be a ball
    assert abs(prompts.count("car at the top left") / len(prompts) - 0.25) < 0.05


def test_the_same_seed_and_id_give_the_same_example() -> None:
    rows = _rows(50)
    first, again = ([AbsentExamples(share=0.5, classes=CLASSES, seed=4).apply(r) for r in rows] for _ in "ab")
    assert first == again
    assert first != [AbsentExamples(share=0.5, classes=CLASSES, seed=5).apply(r) for r in rows]


def test_without_a_truth_the_photo_is_asked_for_something_else() -> None:
    rows = _rows(200, truth=None)
    shown = [AbsentExamples(share=1.0, classes=CLASSES).apply(row) for row in rows]
    assert all(row["mask"] is None and row["image"] == b"photo" for row in shown)
    assert not any(row["prompt"].startswith("ball") for row in shown)


def test_nothing_is_said_to_be_absent_that_may_be_there() -> None:
    anywhere = _rows(50, place="", prompt="ball")
    assert [AbsentExamples(share=1.0, classes=CLASSES).apply(row) for row in anywhere] == anywhere
    alone = _rows(50, truth=None)
    assert [AbsentExamples(share=1.0, classes={"ball": 3}).apply(row) for row in alone] == alone
