from __future__ import annotations

from pathlib import Path

import pytest

from jobs._main import run
from jobs.make_scenes import MakeScenesConfig, main
from textremove.pipe.source import IMAGE_COLUMNS, MASK_COLUMNS, find_shards, read_keys


def test_scenes_are_shards_that_the_reader_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(MakeScenesConfig(out=tmp_path / "scenes", num_scenes=12, size=64, rows_per_shard=10, seed=3))
    images = find_shards(tmp_path / "scenes" / "PIPE", IMAGE_COLUMNS)
    masks = find_shards(tmp_path / "scenes" / "PIPE_Masks", MASK_COLUMNS)
    image_keys = [key for shard in images for key in read_keys(shard).to_pylist()]
    mask_keys = [key for shard in masks for key in read_keys(shard).to_pylist()]
    assert len(images) > 1
    assert len({key.rsplit("/", 1)[0] for key in image_keys}) == 12  # each scene gives a row at least
    assert sorted(image_keys) == sorted(mask_keys)
    assert f"wrote {len(image_keys)} rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--num-scenes", "0"], "--num-scenes"),
        (["--size", "8"], "--size must be at least 32"),
    ],
)
def test_a_meaningless_size_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    with pytest.raises(SystemExit) as exit:
        run(main, ["--out", str(tmp_path / "out"), *arguments])
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
