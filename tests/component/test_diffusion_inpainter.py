"""The diffusion inpainter on a tiny random base: guidance, seeds, batches, and loading errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from textremove.errors import WeightsError
from textremove.inpaint.base import load_base
from textremove.inpaint.diffusion import DiffusionInpainter


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


def test_guidance_off_gives_the_pixels_of_guidance_on_for_the_empty_prompt(
    inpainter: DiffusionInpainter, crops: tuple[list[np.ndarray], list[np.ndarray]]
) -> None:
    image, mask = crops[0][0], crops[1][0]
    ours = inpainter.inpaint([image], [mask], [5])[0]
    guided = inpainter.pipeline(
        prompt="",
        image=Image.fromarray(image),
        mask_image=Image.fromarray(mask),
        height=128,
        width=128,
        num_inference_steps=2,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    # Guided arithmetic, u + 7.5 * (u - u), may round the last bit; one grey level covers that.
    assert np.abs(ours.astype(int) - np.rint(guided * 255).astype(int)).max() <= 1


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
