"""SDXL inpainting bases behind the same inpainter: every step is taken, adapters land, words guide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLInpaintPipeline
from PIL import Image

from textremove.errors import WeightsError
from textremove.inpaint.base import load_base
from textremove.inpaint.diffusion import DiffusionInpainter
from textremove.inpaint.lora import LoraSpec, add_lora, load_lora, save_lora
from textremove.inpaint.options import DiffusionOptions
from textremove.presets import load_inpainter
from textremove.removal import fill_holes

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
MASK = np.zeros((64, 64), np.uint8)
MASK[16:44, 20:40] = 255


@pytest.fixture(scope="module")
def adapter(random_sdxl_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unet = load_base(random_sdxl_base).unet
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in add_lora(unet, LoraSpec()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    save_lora(unet, folder, spec=LoraSpec(), metadata={})
    return folder


def test_it_fills_as_stock_diffusers_does_with_and_without_an_adapter(
    random_sdxl_base: Path, adapter: Path
) -> None:
    inpainter = load_inpainter(str(random_sdxl_base), adapter=str(adapter), num_steps=2)
    assert (inpainter.resolution, inpainter.multiple) == (64, 8)
    stock = StableDiffusionXLInpaintPipeline.from_pretrained(random_sdxl_base, add_watermarker=False)
    stock.scheduler = inpainter.pipeline.scheduler
    stock.set_progress_bar_config(disable=True)

    def by_stock() -> np.ndarray:
        pixels = stock(
            prompt="",
            image=Image.fromarray(IMAGE),
            mask_image=Image.fromarray(MASK),
            height=64,
            width=64,
            num_inference_steps=2,
            strength=1.0,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(3),
            output_type="np",
        ).images[0]
        return np.rint(pixels * 255).astype(np.uint8)

    plain = inpainter.using("base").inpaint([IMAGE], [MASK], [3])[0]
    assert np.array_equal(plain, by_stock())
    stock.load_lora_weights(adapter)
    adapted = inpainter.inpaint([IMAGE], [MASK], [3])[0]
    assert np.array_equal(adapted, by_stock())
    assert not np.array_equal(adapted, plain)


def test_words_redirection_and_several_pictures(random_sdxl_base: Path) -> None:
    def fill(batch_size: int = 1, **options: object) -> list[np.ndarray]:
        inpainter = DiffusionInpainter.from_pretrained(
            random_sdxl_base, num_steps=2, batch_size=batch_size, options=DiffusionOptions(**options)
        )
        return inpainter.inpaint([IMAGE, IMAGE[::-1]], [MASK, MASK[::-1]], [0, 1])

    plain = fill()
    for options in ({"negative_prompt": "ball", "guidance_scale": 5.0}, {"redirect": True}):
        alone, together = fill(**options), fill(2, **options)
        assert not np.array_equal(alone[0], plain[0])
        for one, other in zip(alone, together, strict=True):
            assert np.abs(one.astype(int) - other).max() <= 1


def test_one_step_and_photos_of_any_size(random_sdxl_base: Path) -> None:
    inpainter = load_inpainter(str(random_sdxl_base), num_steps=1)
    image = np.random.default_rng(1).integers(0, 255, (70, 131, 3), np.uint8)
    mask = np.zeros((70, 131), np.uint8)
    mask[20:40, 30:60] = 255
    result = fill_holes(inpainter, [image], [mask], [0])[0]
    assert np.array_equal(result[:, 90:], image[:, 90:])
    assert not np.array_equal(result[mask > 0], image[mask > 0])


def test_an_adapter_of_another_kind_of_base_is_refused(random_base: Path, adapter: Path) -> None:
    with pytest.raises(WeightsError, match="no place for adapter keys|does not fit the base"):
        load_lora(load_base(random_base), adapter)
