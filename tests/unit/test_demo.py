from __future__ import annotations

from pathlib import Path

import pytest

from jobs import _demo_tables as tables
from jobs._steps import Steps
from jobs.demo import _clear
from textremove.errors import ConfigError
from textremove.onray.batch import BatchResult
from textremove.onray.evaluation import Evaluation
from textremove.onray.runs import Comparison
from textremove.scores import Summary
from textremove.statistics import Estimate


def summary(scores: dict[str, dict[str, float]]) -> Summary:
    def estimate(mean: float) -> Estimate:
        return Estimate(mean=mean, low=None, high=None, num_rows=40, num_clusters=20)

    models = {
        model: {name: estimate(mean) for name, mean in means.items()} for model, means in scores.items()
    }
    return Summary(num_examples=40, num_photos=20, models=models)


SCORES = Evaluation(
    out=Path("scores"),
    run_id="",
    num_examples=40,
    segment=summary(
        {
            "segmenter": {"box_dice": 0.8, "box_iou": 0.7, "raw_dice": 0.75},
            "location-prior": {"box_dice": 0.4, "box_iou": 0.3, "raw_dice": 0.35},
        }
    ),
    inpaint=summary(
        {
            "lora": {"psnr": 21.0, "pooled_psnr": 20.0, "seconds": 0.2},
            "base": {"psnr": 19.0, "pooled_psnr": 18.0, "seconds": 0.2},
            "telea": {"psnr": 22.0, "pooled_psnr": 21.0, "seconds": 0.01},
        }
    ),
)


def test_segmenters_are_set_against_the_location_prior() -> None:
    table = tables.segmenters(SCORES)
    assert [row[0] for row in table.rows] == ["trained here", "location prior"]
    assert [row[-1] for row in table.rows] == [2.0, 1.0]
    assert table.best == 0


def test_the_best_inpainter_is_set_off_whichever_it_is() -> None:
    table = tables.inpainters(SCORES)
    assert table.best == 2
    assert table.rows[2][0] == "OpenCV, Telea"


def test_batch_outcomes_name_errors_by_their_reason() -> None:
    batch = BatchResult(
        manifest=Path("manifest.parquet"),
        num_inputs=6,
        num_resumed=0,
        statuses={"ok": 3, "not_found": 1, "error": 2},
        reasons={"not_found": 1, "not_an_image": 2},
        num_unverified=0,
        seconds=1.0,
    )
    assert tables.outcomes(batch) == {"not_found": 1, "ok": 3, "error: not_an_image": 2}


def test_runs_are_laid_out_with_the_figures_there_are() -> None:
    comparison = Comparison(
        columns=("adapter (1)", "segmenter (2)"),
        about=(("kind", ("finetune_inpainter", "train_segmenter")), ("status", ("FINISHED", "FINISHED"))),
        params=(),
        metrics=(("other", (1.0, 2.0)), ("test_box_dice", (None, 0.8))),
    )
    table = tables.runs(comparison)
    assert table.columns == ["run", "kind", "status", "test box dice"]
    assert table.rows[1] == ["segmenter (2)", "train_segmenter", "FINISHED", 0.8]


def test_steps_are_numbered_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps(2)
    with steps.step("make scenes", about="seconds"):
        pass
    with pytest.raises(RuntimeError), steps.step("train", about="a minute"):
        raise RuntimeError
    assert list(steps.seconds) == ["make scenes"]
    printed = capsys.readouterr().out
    assert "[1/2] make scenes (seconds)" in printed
    assert "[2/2] train (a minute)" in printed


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    _clear(out)
    (out / "report.html").write_text("old")
    _clear(out)
    assert not (out / "report.html").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="another --out"):
        _clear(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_file_is_no_place_for_a_demo(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        _clear(tmp_path / "file")
