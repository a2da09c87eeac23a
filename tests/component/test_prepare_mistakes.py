"""What prepare_pipe says to wrong input, before it starts Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs._main import run
from jobs.prepare_pipe import main


def complaint(capsys: pytest.CaptureFixture[str], arguments: dict[str, object]) -> str:
    with pytest.raises(SystemExit) as exit:
        run(main, [str(part) for pair in arguments.items() for part in pair])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_wrong_input_is_one_line_and_leaves_nothing(
    scene_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    right: dict[str, object] = {
        "--images": scene_shards / "PIPE",
        "--masks": scene_shards / "PIPE_Masks",
        "--out": tmp_path / "out",
    }
    assert "there is no folder" in complaint(capsys, right | {"--images": tmp_path / "nowhere"})
    assert "no .parquet file" in complaint(capsys, right | {"--masks": tmp_path / "empty"})
    assert "has no column mask" in complaint(capsys, right | {"--masks": scene_shards / "PIPE"})
    assert "has no column source_img" in complaint(capsys, right | {"--images": scene_shards / "PIPE_Masks"})
    assert "positive" in complaint(capsys, right | {"--limit": -1})
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
