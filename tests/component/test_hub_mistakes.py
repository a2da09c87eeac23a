"""Segmenters from the hub by `--segmenter`, and the one line that each mistake with them gives."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file

from textremove import cli
from textremove.errors import ConfigError, WeightsError
from textremove.presets import check_models, load_segmenter
from textremove.segment import hub as hub_module


def _textremove(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Exit status, output and errors of the command, in this process: a new one imports for many seconds."""
    monkeypatch.setattr(sys, "argv", ["textremove", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), *capfd.readouterr()


def test_the_shell_takes_them(
    hub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(hub / "clipseg", tmp_path / "clipseg")
    weights = tmp_path / "clipseg" / "model.safetensors"
    tensors = load_file(weights)
    last = max(name for name in tensors if name.startswith("decoder.transposed_convolution"))
    bias = last.replace("weight", "bias")
    photo, out = tmp_path / "photo.png", tmp_path / "out.png"
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(photo)
    arguments = ("remove", photo, "ball", "--out", out, "--inpainter", "telea")
    for certainty, status, words in ((-9.0, 3, "not found: 'ball'"), (9.0, 0, "removed 'ball'")):
        constant = {last: torch.zeros_like(tensors[last]), bias: torch.full((1,), certainty)}
        save_file(tensors | constant, weights)  # now it finds nothing anywhere, then something everywhere
        code, output, errors = _textremove(capfd, monkeypatch, *arguments, "--segmenter", weights.parent)
        assert (code, errors) == (status, "")
        assert words in output
        assert out.exists() == (status == 0)


def _refused(source: str, words: str, *, by: Any = load_segmenter, kind: Any = WeightsError) -> None:
    with pytest.raises(kind, match=words) as mistake:
        by(source)
    assert "\n" not in str(mistake.value)


def _check(source: str) -> None:
    check_models(source, "telea")


@pytest.mark.parametrize("name", ["clipseg", "sam3", "dino", "sam2"])
def test_damaged_and_incomplete_weights_are_one_line(name: str, hub: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(hub / name, folder)
    pair = {"dino": f"{folder}+{hub / 'sam2'}", "sam2": f"{hub / 'dino'}+{folder}"}
    source, weights = pair.get(name, str(folder)), folder / "model.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)
    # transformers itself would start these at random, and warn.
    dropped = next(key for key in sorted(tensors, reverse=True) if key.endswith("weight"))
    save_file({key: tensor for key, tensor in tensors.items() if key != dropped}, weights)
    _refused(source, f"{folder} lacks 1 of its weights, {dropped}")
    other = tensors | {dropped: torch.zeros(3, 5)}
    save_file(other, weights)
    _refused(source, f"{folder} cannot be loaded")
    weights.write_bytes(whole[: len(whole) // 2])
    _refused(source, f"{folder} cannot be loaded")
    weights.unlink()
    _refused(source, f"{folder} has a config.json but no weights", by=_check)
    weights.write_bytes(whole)
    _check(source)
    (folder / "config.json").write_text("{")
    _refused(source, "does not say what model", by=_check)


def test_what_is_no_segmenter_is_refused_before_anything_is_loaded(hub: Path, tmp_path: Path) -> None:
    _refused(str(hub / "dino"), "one half of a segmenter", by=_check)
    _refused(f"{hub / 'sam2'}+{hub / 'dino'}", r"holds a sam2\+grounding-dino, no segmenter", by=_check)
    _refused(str(tmp_path), "neither a manifest.json nor a config.json; it holds no segmenter", by=_check)
    for name in ("huge", "clipseg+", "+", "tiny+tiny"):
        _refused(name, "unknown segmenter .*; choose tiny, paper, clipseg", by=_check, kind=ConfigError)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    _refused(str(tmp_path), "holds a bert, no segmenter", by=_check)


def test_a_hub_that_is_not_there_is_one_line_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "hf_hub_url", lambda *_: "http://127.0.0.1:9/nobody/listens")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photo)
    for name, source in (("zero-shot", "IDEA-Research/grounding-dino-tiny"), ("sam3", "facebook/sam3")):
        started = time.perf_counter()
        code, output, errors = _textremove(
            capfd, monkeypatch, "remove", photo, "ball", "--out", tmp_path / "out.png", "--segmenter", name
        )
        assert time.perf_counter() - started < 20  # the hub's own client tries for half a minute, and says so
        assert (code, output) == (2, "")
        assert errors.startswith(f"error: {source} is no folder here and cannot be got from the hub (")
        assert errors.endswith("give its local folder instead of the hub id\n")
        assert errors.count("\n") == 1
        _refused(name, source, by=_check)


def test_what_the_hub_refuses_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    answer = httpx.Response(403, request=httpx.Request("HEAD", "https://huggingface.co"))
    for error, words in (
        (GatedRepoError, "facebook/sam3 is gated on the hub: accept its licence .* `hf auth login`"),
        (RepositoryNotFoundError, "neither a folder here nor a public model on the hub; check its name"),
        (RemoteEntryNotFoundError, "has no config.json on the hub"),
    ):

        def refuse(url: str, error: Any = error) -> None:
            raise error("no", response=answer)

        monkeypatch.setattr(hub_module, "get_hf_file_metadata", refuse)
        _refused("sam3", words, by=_check)
