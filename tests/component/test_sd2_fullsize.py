"""The paper's inpainter at its full size: minutes and gigabytes, so only with `-m fullsize`.

With -s it says what it took. The weights are random.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from PIL import Image

from benchmarks._sd2 import NUM_UNET, SIDE, save_sd2
from textremove.inpaint.adapter_training import AdapterTraining
from textremove.inpaint.diffusion import DiffusionInpainter, load_base
from textremove.inpaint.holes import HoleConfig, cut_square
from textremove.inpaint.latents import LatentEncoder
from textremove.inpaint.lora import LoraSpec, save_lora
from textremove.inpaint.objective import InpaintTrainConfig

pytestmark = [pytest.mark.fullsize, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the base in the hub's layout, 5.2 GB."""
    folder = tmp_path_factory.mktemp("sd2") / "stable-diffusion-2-inpainting"
    save_sd2(folder)
    return folder


@contextmanager
def told(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(f"\n{what}: {time.monotonic() - started:.0f} s; peak memory so far {peak:.1f} GiB\n")
    sys.stdout.flush()


def test_a_step_at_full_size_then_saved_and_loaded_stock_diffusers_paints_the_same(
    sd2: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[150:350, 200:400] = 255

    pipeline = load_base(sd2)
    square = cut_square(image, mask, image, resolution=SIDE, holes=HoleConfig(), rng=rng)
    with told("encoding an example"):
        batch = LatentEncoder(pipeline.vae, resolution=SIDE).encode([square])
    assert batch.truth_BCHW.shape == (1, 4, 64, 64)
    config = InpaintTrainConfig(gradient_checkpointing=True, learning_rate=1e-2)
    training = AdapterTraining(pipeline, LoraSpec(), config)
    del pipeline
    digest = training.base_digest()
    with told("a step of LoRA at 512 px, batch 1, checkpointing"):
        loss = training.step(batch, [0])
    assert torch.isfinite(loss).all()
    assert training.base_digest() == digest
    num_trainable = sum(parameter.numel() for parameter in training.parameters)
    assert num_trainable < NUM_UNET / 500
    save_lora(training.unet, tmp_path / "adapter", spec=LoraSpec(), metadata={})
    del training
    gc.collect()

    given = {
        "prompt": "",
        "image": Image.fromarray(image),
        "mask_image": Image.fromarray(mask),
        "height": SIDE,
        "width": SIDE,
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
        "output_type": "np",
    }
    inpainter = DiffusionInpainter.from_pretrained(sd2, adapter=tmp_path / "adapter", num_steps=2)
    with told("a removal of 2 steps at 512 px"):
        removed = inpainter.inpaint([image], [mask], [3])[0]
    ours = inpainter.pipeline(**given, generator=torch.Generator().manual_seed(3)).images[0]
    del inpainter
    gc.collect()

    stock = StableDiffusionInpaintPipeline.from_pretrained(
        sd2, safety_checker=None, requires_safety_checker=False
    )
    stock.load_lora_weights(tmp_path / "adapter")
    stock.set_progress_bar_config(disable=True)
    theirs = stock(**given, generator=torch.Generator().manual_seed(3)).images[0]
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.array_equal(removed, np.rint(theirs * 255).astype(np.uint8))
    stock.disable_lora()
    without = stock(**given, generator=torch.Generator().manual_seed(3)).images[0]
    assert np.abs(without - theirs).max() > 1e-3
