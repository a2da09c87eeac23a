from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from textremove.groups import COMPOUND, FILLING_GROUPS, GROUPS, SIMPLE, class_group, place_group, size_group
from textremove.inpaint.metrics import pooled_psnr, psnr
from textremove.report.cases import Case, case_row
from textremove.report.evaluation import evaluation_report
from textremove.report.filling import INPAINT_PAIRED, INPAINT_SCORES, ScoredFillings
from textremove.report.filling_cases import FillingCase, cases_to_show, filling_case_row
from textremove.report.page import render_report
from textremove.report.score_figures import ViolinRow, interval_chart, violin_chart
from textremove.report.scores import Scored
from textremove.report.segmenting import SEGMENT_PAIRED, SEGMENT_SCORES
from textremove.scores import Row, summarise
from textremove.statistics import Estimate

CLASSES, PLACES = ("person", "dog", "women"), ("left", "top left", "na górze", "")


def about(number: int) -> dict[str, Any]:
    fraction = (0.01, 0.05, 0.3)[number % 3]
    object_class, place = CLASSES[number % 3], PLACES[number % 4]
    return {
        "example_id": f"e{number:02d}", "photo_id": f"p{number // 2:02d}", "prompt": object_class,
        "class_group": class_group(object_class), "size_group": size_group(fraction),
        "place_group": place_group(place),
    }  # fmt: skip


def segment_rows(count: int, models: Sequence[str] = ("tiny", "location-prior")) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    names = [score.name for score in SEGMENT_SCORES]
    return [
        about(k) | {"segmenter": model} | {name: float(random.random()) for name in names}
        for k in range(count)
        for model in models
    ]


def inpaint_rows(
    count: int, variants: Sequence[str] = ("lora", "base", "telea", "ours")
) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    made = []
    for k in range(count):
        before = k % 5 != 4  # every fifth is not found in the input
        for model in variants:
            error = float(random.uniform(50, 500))
            scores = {"squared_error": error, "psnr": psnr(error), "num_pixels": 10 + k, "seconds": 0.2}
            scores |= {name: float(random.random()) for name in ("ssim", "band_ssim", "band_psnr")}
            scores |= {"success": bool(random.random() < 0.7) if before else None, "found_before": before}
            scores |= {"truth_success": k % 10 != 0 if before else None, "outside": 0, "attempts": 1}
            kind = COMPOUND if k % 2 else SIMPLE
            made.append(about(k) | {"inpainter": model, "shape_group": kind} | scores)
    return made


def scored_segmenters(rows: Sequence[Row]) -> Scored:
    made = summarise(rows, model="segmenter", scores=SEGMENT_SCORES, by=GROUPS, paired=SEGMENT_PAIRED)
    return Scored(split="test", rows=rows, summary=made)


def scored_fillings(rows: Sequence[Row], cases: Sequence[FillingCase] = ()) -> ScoredFillings:
    made = summarise(
        rows,
        model="inpainter",
        scores=INPAINT_SCORES,
        by=FILLING_GROUPS,
        paired=INPAINT_PAIRED,
        against="base",
    )
    return ScoredFillings(
        scored=Scored(split="test", rows=rows, summary=made),
        cases=cases,
        about={"ours": "everything as it is by default"},
        absent={"lpips": "its backbone is not there"},
        segmenter="tiny",
    )


def page(
    segment: Sequence[Row] = (),
    inpaint: Sequence[Row] = (),
    cases: Sequence[Case] = (),
    data: str = "scenes",
    fillings: Sequence[FillingCase] = (),
) -> str:
    return render_report(
        evaluation_report(
            data,
            scored_segmenters(segment) if segment else None,
            cases,
            scored_fillings(inpaint, fillings) if inpaint else None,
            [("Data", data)],
        )
    )


def tables(html: str) -> list[list[list[str]]]:
    """Cells of every table, as text; headings first."""
    found = []
    for table in re.findall(r"<table>.*?</table>", html, re.S):
        rows = (
            re.findall(r"<t[hd].*?</t[hd]>", row, re.S) for row in re.findall(r"<tr.*?</tr>", table, re.S)
        )
        found.append([[unescape(re.sub("<[^>]+>", "", cell)).strip() for cell in row] for row in rows])
    return found


def mean(rows: Sequence[Row], score: str, **where: str) -> float:
    return float(np.mean([r[score] for r in rows if all(r[name] == value for name, value in where.items())]))


def value(cell: str) -> float:
    return float(cell.split()[0])


def test_every_number_of_the_segmenters_comes_from_their_rows() -> None:
    rows = segment_rows(24)
    one, strategies, answers, groups, *pairs = tables(page(rows))[:6]
    assert [row[0] for row in one[3:]] == ["tiny", "location-prior"]
    for row in one[3:]:
        assert value(row[1]) == pytest.approx(mean(rows, "box_dice", segmenter=row[0]), abs=5e-5)
        assert value(row[2]) == pytest.approx(mean(rows, "box_iou", segmenter=row[0]), abs=5e-5)
        assert row[3] == "here: 24 examples of 12 photos, test split"
    for name, compared, dice, iou in strategies[1:]:
        strategy = {"Raw vs Raw": "raw", "Box vs Box": "box", "Raw vs Box": "raw_box"}[compared]
        assert value(dice) == pytest.approx(mean(rows, f"{strategy}_dice", segmenter=name), abs=5e-4)
        assert value(iou) == pytest.approx(mean(rows, f"{strategy}_iou", segmenter=name), abs=5e-4)
        low, high = map(float, re.findall(r"\[(.*), (.*)\]", dice)[0])
        assert low < value(dice) < high
    for name, found, seconds in answers[1:]:
        assert value(found) == pytest.approx(mean(rows, "found", segmenter=name), abs=5e-4)
        assert value(seconds) == pytest.approx(mean(rows, "seconds", segmenter=name), abs=5e-4)
    assert groups[0] == ["group", "examples", "tiny", "location-prior"]
    assert sum(int(row[1]) for row in groups if row[0].startswith("place:")) == 24
    for label, examples, *cells in groups[2:]:
        kind, group = label.split(": ")
        where = {f"{kind}_group": group}
        for name, cell in zip(("tiny", "location-prior"), cells, strict=True):
            expected = mean(rows, "box_dice", segmenter=name, **where)
            assert value(cell) == pytest.approx(expected, abs=5e-4)
        assert int(examples) == sum(r[f"{kind}_group"] == group for r in rows) / 2
    for (_, row), score in zip(pairs, SEGMENT_PAIRED, strict=True):
        difference = mean(rows, score, segmenter="tiny") - mean(rows, score, segmenter="location-prior")
        assert value(row[2]) == pytest.approx(difference, abs=5e-4)
        assert value(row[3]) + value(row[4]) + value(row[5]) == pytest.approx(100, abs=0.2)


def test_published_rows_are_the_papers_and_say_so() -> None:
    published = tables(page(segment_rows(6)))[0][1:3]
    assert [row[1:3] for row in published] == [["0.3736", "0.2821"], ["0.4386", "0.3118"]]
    assert all("published" in row[3] and "PIPE" in row[3] for row in published)


def test_every_number_of_the_fillings_comes_from_their_rows() -> None:
    rows = inpaint_rows(20)
    overview, gone, by_success, near, pairs, by_psnr = tables(page(inpaint=rows))
    assert [row[0] for row in overview[1:]] == ["lora", "base", "telea", "ours"]
    for name, _, success, psnr_cell, gain, attempts, seconds in overview[1:]:
        looked = [row for row in rows if row["found_before"]]
        assert value(success) == pytest.approx(mean(looked, "success", inpainter=name), abs=5e-4)
        assert value(psnr_cell) == pytest.approx(mean(rows, "psnr", inpainter=name), abs=5e-3)
        above = mean(rows, "psnr", inpainter=name) - mean(rows, "psnr", inpainter="base")
        assert gain == "–" if name == "base" else value(gain) == pytest.approx(above, abs=1e-2)
        assert (attempts, seconds) == ("1.00", "0.20")
    for name, psnr_cell, pooled_cell, ssim, band_psnr, band_ssim in near[1:]:
        of_name = [row for row in rows if row["inpainter"] == name]
        pooled = pooled_psnr((r["squared_error"] for r in of_name), (r["num_pixels"] for r in of_name))
        assert value(pooled_cell) == pytest.approx(pooled, abs=5e-3)
        for cell, score in (
            (psnr_cell, "psnr"),
            (ssim, "ssim"),
            (band_psnr, "band_psnr"),
            (band_ssim, "band_ssim"),
        ):
            assert value(cell) == pytest.approx(mean(rows, score, inpainter=name), abs=5e-3)
    for compared in (gone, pairs):
        assert [row[:2] for row in compared[1:]] == [["lora", "base"], ["telea", "base"], ["ours", "base"]]
    compound = next(row for row in by_success if row[0] == "things: compound")
    looked = [row for row in rows if row["found_before"]]
    assert value(compound[2]) == pytest.approx(
        mean(looked, "success", inpainter="lora", shape_group=COMPOUND), abs=5e-4
    )
    human = next(row for row in by_psnr if row[0] == "class: human")
    assert value(human[2]) == pytest.approx(
        mean(rows, "psnr", inpainter="lora", class_group="human"), abs=5e-3
    )


def test_the_page_says_what_the_scores_are_worth() -> None:
    html = unescape(page(inpaint=inpaint_rows(20)))
    assert "Every score that needs no truth likes blur" in html
    assert "4 of 20 examples are left out" in html
    assert "it finds nothing in 0.875 of the 16 others" in html  # the first and the tenth are found in it
    assert "the largest difference to the input is 0 grey levels, in 80 fillings, as it must be" in html
    assert "LPIPS is not given: its backbone is not there" in html
    leaking = inpaint_rows(20)
    leaking[7]["outside"] = 3
    assert "is 3 grey levels, in 80 fillings: it must be 0" in page(inpaint=leaking)


def test_without_a_segmenter_nothing_is_said_of_success() -> None:
    rows = [row | {"success": None, "found_before": None, "truth_success": None} for row in inpaint_rows(12)]
    html = page(inpaint=rows)
    assert "Is it gone?" not in html
    assert len(tables(html)) == 4
    alone = page(inpaint=inpaint_rows(6, ["telea"]))
    assert "PSNR above another" not in alone


def test_the_sheet_shows_the_best_the_worst_what_is_left_and_people() -> None:
    rows = inpaint_rows(40)
    chosen = cases_to_show(rows)
    assert {row["inpainter"] for group in chosen.values() for row in group} == {"ours"}
    ours = [row["psnr"] for row in rows if row["inpainter"] == "ours"]
    assert chosen["best"][0]["psnr"] == max(ours)
    assert chosen["worst"][0]["psnr"] == min(ours)
    assert {row["success"] for row in chosen["still found"]} == {False}
    assert {row["class_group"] for row in chosen["people"]} == {"human"}
    ids = [row["example_id"] for group in chosen.values() for row in group]
    assert len(ids) == len(set(ids)) == 10
    assert cases_to_show([]) == {}
    assert len(cases_to_show(inpaint_rows(2))["best"]) == 1

    picture, mask = np.full((20, 30, 3), 90, np.uint8), np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15] = 255
    names = ("telea", "lora", "base", "ours")
    case = FillingCase(
        kind="still found", prompt="dog", example_id="e1", image=picture, mask=mask, truth=picture,
        filled=dict.fromkeys(names, picture),
        scores={name: {"psnr": 20.04, "success": name != "base"} for name in names},
    )  # fmt: skip
    row = filling_case_row(case)
    assert row.title == "Still found: “dog” (e1)"
    assert [each.caption for each in row.pictures] == [
        "input", "mask", "base: 20.0 dB, still found", "lora: 20.0 dB, gone", "ours: 20.0 dB, gone", "truth",
    ]  # fmt: skip
    assert "Still found: “dog” (e1)" in page(inpaint=rows, fillings=[case])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_examples_make_a_page_without_intervals(count: int) -> None:
    html = page(segment_rows(count), inpaint_rows(count))
    said = "1 example of 1 photo" if count == 1 else f"{count} examples of"
    assert said in html
    assert ("[" in "".join(tables(html)[1][1])) == (count == 9)


def test_a_segmenter_that_never_finds_anything_and_strange_names_are_shown() -> None:
    names = ("модель $x_1$ <b>", "location-prior")
    rows = [row | {score.name: 0.0 for score in SEGMENT_SCORES} for row in segment_rows(12, names)]
    html = page(rows, data="données & c°")
    assert "модель $x_1$ &lt;b&gt;" in html
    assert "Evaluation on données &amp; c°" in html
    assert tables(html)[1][1][2] == "0.000 [0.000, 0.000]"


def test_a_case_shows_each_mask_with_its_scores() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    truth, half, nothing = (np.zeros((20, 30), np.uint8) for _ in range(3))
    truth[5:15, 5:25] = 255
    half[5:15, 5:15] = 255
    case = Case(
        kind="worst", prompt="cień po lewej", example_id="e1", image=image, truth=truth,
        found={"exact": truth, "half": half, "blind": nothing},
    )  # fmt: skip
    row = case_row(case)
    assert row.title == "Worst: “cień po lewej” (e1)"
    assert [picture.caption for picture in row.pictures] == [
        "input", "truth", "exact: 1.000 / 1.000", "half: 0.667 / 0.667", "blind: nothing found",
    ]  # fmt: skip
    shown, exact, blind = (row.pictures[k].image for k in (1, 2, 4))
    np.testing.assert_array_equal(shown, exact)
    assert (blind[..., 0] == blind[..., 1]).all()  # grey, nothing on it
    assert (shown[10, 15, 0] - shown[10, 15, 1].astype(int)) > 30  # red where the mask is
    assert "cień po lewej" in page(segment_rows(6), cases=[case])


def texts(svg: str) -> list[str]:
    return [(element.text or "").strip() for element in ElementTree.fromstring(svg).iter()]


def test_violins_name_their_rows_and_panels() -> None:
    values = {"Dice": np.linspace(0, 1, 30), "IoU": np.array([0.5])}
    made = [ViolinRow(heading=model, label="Box vs Box", values=values) for model in ("ours", "theirs")]
    words = texts(violin_chart(made, limits=(0, 1)))
    assert {"Dice", "IoU", "ours", "theirs"} <= set(words)
    assert words.count("Box vs Box") == 2


def test_intervals_have_a_legend_when_there_are_several_series() -> None:
    sure = Estimate(mean=0.5, low=0.4, high=0.6, num_rows=9, num_clusters=9)
    unsure = Estimate(mean=0.7, low=None, high=None, num_rows=2, num_clusters=1)
    words = texts(
        interval_chart({"class": {"human (2)": {"ours": sure, "theirs": unsure}}}, x_label="box Dice")
    )
    assert {"class", "human (2)", "ours", "theirs", "box Dice"} <= set(words)
    single = texts(interval_chart({"": {"a − b": {"": sure}}}, x_label="difference", reference=0.0))
    assert "a − b" in single
