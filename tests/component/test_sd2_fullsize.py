"""The paper's inpainter at its full size: minutes and gigabytes, so only with `-m fullsize`.

With -s it says what it took. The weights are random; classes, sizes and folder layout are those of Stable
Diffusion 2 inpainting.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from textremove.inpaint.adapter_training import AdapterTraining
from textremove.inpaint.diffusion import DiffusionInpainter, load_base
from textremove.inpaint.holes import HoleConfig, cut_square
from textremove.inpaint.latents import LatentEncoder
from textremove.inpaint.lora import LoraSpec, save_lora
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.pretraining import vocabulary
from textremove.text import build_tokenizer

pytestmark = [pytest.mark.fullsize, pytest.mark.slow, pytest.mark.timeout(3600)]

SIDE = 512
# Parameters of the published weights; the UNet has 5 input channels more than text to image, 320 by 3 by 3.
NUM_UNET, NUM_VAE, NUM_TEXT = 865_910_724 + 5 * 320 * 9, 83_653_863, 340_387_840


def part(name: str, folder: Path) -> tuple[str, str]:
    """Builds one part with random weights and saves it; only one is in memory at a time."""
    torch.manual_seed(0)
    if name == "unet":
        # v2-inpainting-inference.yaml of Stability-AI/stablediffusion: heads of 64 channels.
        model = UNet2DConditionModel(
            sample_size=SIDE // 8,
            in_channels=9,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
        )
        expected = NUM_UNET
    elif name == "vae":
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=SIDE,
        )
        expected = NUM_VAE
    elif name == "text_encoder":
        # The text tower of OpenCLIP ViT-H/14 up to its last layer but one, which is what SD2 reads.
        config = CLIPTextConfig(
            vocab_size=49408,
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=23,
            num_attention_heads=16,
            hidden_act="gelu",
            projection_dim=512,
        )
        model, expected = CLIPTextModel(config), NUM_TEXT
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    model.save_pretrained(folder / name)
    return ("transformers" if name == "text_encoder" else "diffusers"), type(model).__name__


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the base in the hub's layout, 5.2 GB."""
    folder = tmp_path_factory.mktemp("sd2") / "stable-diffusion-2-inpainting"
    tokenizer = build_tokenizer(vocabulary(), max_length=77)
    tokenizer.save_pretrained(folder / "tokenizer")
    # Unlike SD2's own 768 px model, the one for inpainting predicts epsilon.
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
    }
    for name in ("unet", "vae", "text_encoder"):
        index[name] = list(part(name, folder))
        gc.collect()
    (folder / "model_index.json").write_text(json.dumps(index))
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
