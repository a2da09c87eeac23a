"""Loading a base inpainter: any 9-channel Stable Diffusion or SDXL inpainting pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
)
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from textremove.errors import WeightsError

Pipeline: TypeAlias = StableDiffusionInpaintPipeline | StableDiffusionXLInpaintPipeline

NUM_CHANNELS = 9
"""What the UNet of an inpainting base reads: 4 noisy latent channels, 1 mask, 4 masked-image channels."""


def load_base(source: str | Path, *, device: str = "cpu") -> Pipeline:
    """Loads a base inpainter, and gives it a DDIM scheduler as the paper does.

    Args:
        source: Hub id ("owner/name") or local folder in the hub's layout.
        device: Where its weights go.

    Raises:
        WeightsError: The folder holds no such pipeline, or the hub cannot be reached.
    """
    folder = Path(source)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise WeightsError(f"{source} has no model_index.json; it is not a diffusers pipeline folder")
    pipeline = _read(str(source), local=folder.exists())
    if not isinstance(pipeline, Pipeline):
        raise WeightsError(
            f"{source} is a {type(pipeline).__name__}; known are Stable Diffusion and SDXL inpainting bases"
        )
    if pipeline.unet.config.in_channels != NUM_CHANNELS:
        raise WeightsError(
            f"{source} is no inpainting base: "
            f"its UNet reads {pipeline.unet.config.in_channels} channels, not {NUM_CHANNELS}"
        )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _read(source: str, *, local: bool) -> object:
    # Bars for reading a few files from disk; downloads from the hub still show theirs.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()  # what goes wrong is told in one line of our own
    try:
        # Which of the two it is stands in its model_index.json. SDXL's does not know of a safety checker,
        # and would print a watermark into every picture if it could.
        return DiffusionPipeline.from_pretrained(
            source,
            safety_checker=None,
            requires_safety_checker=False,
            add_watermarker=False,
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError) as error:
        if local:
            raise WeightsError(f"{source} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
        raise WeightsError(
            f"cannot get {source!r} from the hub ({type(error).__name__}); download it where there is a "
            f"network and give its local folder instead of the hub id"
        ) from None
    finally:
        diffusers_logging.set_verbosity(verbosity)
