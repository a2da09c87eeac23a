"""The `textremove` command: what it writes, and one clear line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textremove.images import encode_mask
from textremove.pipe.scene_rows import figure_one_scene


def _textremove(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from textremove.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,  # the first import in a fresh environment compiles bytecode for a minute or two
        check=False,
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "balls.png"
    Image.fromarray(figure_one_scene()[0]).save(path)
    return path


def test_a_named_object_is_removed_and_the_rest_is_untouched(photo: Path, tmp_path: Path) -> None:
    out, mask_path = tmp_path / "clean.png", tmp_path / "mask.png"
    done = _textremove("remove", photo, "ball at the center left", "--out", out, "--save-mask", mask_path)
    assert done.returncode == 0, done.stderr
    assert "removed 'ball at the center left'" in done.stdout
    assert (
        "verified: looked for again and not found where it was (filled in 1 attempt of 1, kept seed 0)"
        in done.stdout
    )
    before, after, mask = (np.asarray(Image.open(path)) for path in (photo, out, mask_path))
    true = figure_one_scene()[1]["ball at the center left"]
    assert (mask[true > 0] > 0).mean() > 0.7
    assert np.abs(before[true > 0].astype(int) - after[true > 0]).mean() > 10
    assert np.array_equal(before[:, 90:], after[:, 90:])


def test_a_mask_of_one_s_own_needs_no_prompt(photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[40:80, 20:60] = 255
    (tmp_path / "mask.png").write_bytes(encode_mask(mask))
    out = tmp_path / "clean.png"
    done = _textremove(
        "remove", photo, "", "--out", out, "--mask", tmp_path / "mask.png", "--inpainter", "telea"
    )
    assert done.returncode == 0, done.stderr
    assert "filled in 1 attempt of 1, kept seed 0; not verified" in done.stdout
    assert out.is_file()


def test_mistakes_are_one_line_and_leave_nothing(photo: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("not a photo")
    out = tmp_path / "clean.png"
    for arguments, words in (
        (("remove", tmp_path / "gone.jpg", "ball"), "gone.jpg: cannot be read"),
        (("remove", note, "ball"), "not an image"),
        (("remove", photo, "  "), "the prompt is empty"),
        (("remove", photo, "ball", "--segmenter", "huge"), "unknown segmenter 'huge'"),
        (("remove", photo, "ball", "--inpainter", "magic"), "unknown inpainter 'magic'"),
        (("remove", photo, "ball", "--inpainter", "telea", "--adapter", tmp_path), "leave the adapter out"),
        (
            ("remove", photo, "ball", "--inpainter", "telea", "--samples", "3"),
            "fills the same with every seed",
        ),
        (("remove", photo, "ball", "--attempts", "99"), "--attempts must lie in [1, 8], not 99"),
    ):
        done = _textremove(*arguments, "--out", out)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.startswith("error: "), done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert not out.exists()
