"""The `textremove` command: what it writes, and one clear line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textremove.cli import main
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


def test_a_mistake_is_all_that_the_process_says(tmp_path: Path) -> None:
    out = tmp_path / "clean.png"
    done = _textremove("remove", tmp_path / "gone.jpg", "ball", "--out", out)
    assert done.returncode == 2
    assert not out.exists()
    assert done.stderr.startswith("error: ")
    assert "gone.jpg: cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        ("  ", [], "the prompt is empty"),
        ("ball", ["--segmenter", "huge"], "unknown segmenter 'huge'"),
        ("ball", ["--inpainter", "magic"], "unknown inpainter 'magic'"),
        ("ball", ["--inpainter", "telea", "--adapter", "."], "leave the adapter out"),
        ("ball", ["--inpainter", "telea", "--samples", "3"], "fills the same with every seed"),
        ("ball", ["--attempts", "99"], "--attempts must lie in [1, 8], not 99"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    photo: Path,
    prompt: str,
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "clean.png"
    _complaint(["remove", str(photo), prompt, *options, "--out", str(out)], words, monkeypatch, capsys)
    assert not out.exists()


def test_what_is_no_photo_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note, out = tmp_path / "note.txt", tmp_path / "clean.png"
    note.write_text("not a photo")
    _complaint(["remove", str(note), "ball", "--out", str(out)], "not an image", monkeypatch, capsys)
    assert not out.exists()


def _complaint(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["textremove", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    said = capsys.readouterr().err
    assert exit.value.code == 2, said
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
