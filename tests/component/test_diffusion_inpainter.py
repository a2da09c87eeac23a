"""The diffusion inpainter on a tiny random base: guidance, seeds, batches, and loading errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from textremove.errors import ConfigError, WeightsError
from textremove.inpaint.base import load_base
from textremove.inpaint.diffusion import DiffusionInpainter
from textremove.inpaint.options import DiffusionOptions


@pytest.fixture(scope="module")
def inpainter(random_base: Path) -> DiffusionInpainter:
    return DiffusionInpainter.from_pretrained(random_base, num_steps=2)


@pytest.fixture(scope="module")
def crops() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (128, 128, 3), np.uint8) for _ in range(3)]
    masks = [np.zeros((128, 128), np.uint8) for _ in range(3)]
    for k, mask in enumerate(masks):
        mask[20 + 10 * k : 60 + 10 * k, 30:80] = 255
    return images, masks


def test_guidance_without_words_is_the_same_pixels_at_twice_the_passes(
    random_base: Path,
    crops: tuple[list[np.ndarray], list[np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the paper's demo does, prompt "" under guidance 7.5, buys nothing."""
    pipeline = load_base(random_base)
    passes: list[int] = []
    forward = pipeline.unet.forward

    def counted(sample_BCHW: torch.Tensor, *args: object, **kwargs: object) -> object:
        passes.append(len(sample_BCHW))
        return forward(sample_BCHW, *args, **kwargs)

    monkeypatch.setattr(pipeline.unet, "forward", counted)

    def fill(**options: object) -> np.ndarray:
        passes.clear()
        inpainter = DiffusionInpainter(pipeline, num_steps=3, options=DiffusionOptions(**options))
        return inpainter.inpaint(crops[0][:1], crops[1][:1], [5])[0]

    plain = fill()
    assert sum(passes) == 3
    guided = fill(guidance_scale=7.5)
    assert sum(passes) == 6
    # u + 7.5 * (t - u) with t = u; kernels for two rows may round the last bit, one grey level covers that.
    assert np.abs(guided.astype(int) - plain).max() <= 1
    assert (guided == plain).mean() > 0.99
    # With words on one side it does what guidance is for.
    assert not np.array_equal(fill(guidance_scale=7.5, negative_prompt="ball"), plain)
    assert not np.array_equal(fill(positive_prompt="ball"), plain)
    assert sum(passes) == 3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"guidance_scale": 0.5}, r"--guidance-scale must lie in \[1, 30\], not 0.5"),
        ({"negative_prompt": "object"}, "works through guidance; give --guidance-scale"),
        ({"redirect_until": 0.0}, r"--redirect-until must lie in \(0, 1\]"),
        ({"redirect_contrast": True, "redirect": True}, "give --redirect and --guidance-scale too"),
        ({"redirect_contrast": True, "guidance_scale": 3.0}, "give --redirect and --guidance-scale too"),
        ({"redirect_coverage": 1.0}, r"--redirect-coverage must lie in \[0, 1\)"),
        ({"redirect_min_tokens": -1}, "--redirect-min-tokens must be 0 or more"),
    ],
)
def test_options_without_a_meaning_are_one_line(options: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        DiffusionOptions(**options)


def test_the_empty_prompt_is_encoded_once(
    inpainter: DiffusionInpainter,
    crops: tuple[list[np.ndarray], list[np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[object] = []
    original = inpainter.pipeline.text_encoder.forward

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(inpainter.pipeline.text_encoder, "forward", counted)
    inpainter.inpaint(*crops, [0, 1, 2])
    assert calls == []


def test_pixels_depend_on_the_seed_and_not_on_the_batch(
    inpainter: DiffusionInpainter, crops: tuple[list[np.ndarray], list[np.ndarray]]
) -> None:
    images, masks = crops
    together = inpainter.inpaint(images, masks, [1, 2, 3])
    alone = inpainter.inpaint(images[1:2], masks[1:2], [2])[0]
    other = inpainter.inpaint(images[1:2], masks[1:2], [9])[0]
    assert np.array_equal(together[1], alone)
    assert not np.array_equal(together[1], other)


def test_a_folder_that_is_no_pipeline_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no model_index.json"):
        load_base(tmp_path)


def test_a_hub_that_cannot_be_reached_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="local folder"):
        load_base("no-such-owner/no-such-inpainting-base")


def test_a_base_without_mask_channels_is_refused(random_base: Path, tmp_path: Path) -> None:
    import shutil

    from diffusers import UNet2DConditionModel

    folder = tmp_path / "text-to-image"
    shutil.copytree(random_base, folder)
    config = dict(UNet2DConditionModel.load_config(folder / "unet")) | {"in_channels": 4}
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    with pytest.raises(WeightsError, match="reads 4 channels, not 9"):
        load_base(folder)


def test_a_pipeline_of_another_kind_is_refused(random_base: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = tmp_path / "image-to-image"
    shutil.copytree(random_base, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="is a StableDiffusionImg2ImgPipeline; known are"):
        load_base(folder)
