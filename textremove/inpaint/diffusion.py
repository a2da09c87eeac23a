"""The diffusion inpainter: any 9-channel Stable Diffusion inpainting base, with or without an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

from textremove.errors import WeightsError
from textremove.inpaint.lora import load_lora
from textremove.inpaint.redirect import RedirectConfig, Redirection


def load_base(source: str | Path, *, device: str = "cpu") -> StableDiffusionInpaintPipeline:
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
    # Bars for reading a few files from disk; downloads from the hub still show theirs.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()  # what goes wrong is told in one line of our own
    try:
        pipeline = StableDiffusionInpaintPipeline.from_pretrained(
            str(source), safety_checker=None, requires_safety_checker=False, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        if folder.exists():
            raise WeightsError(f"{source} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
        raise WeightsError(
            f"cannot get {source!r} from the hub ({type(error).__name__}); download it where there is a "
            f"network and give its local folder instead of the hub id"
        ) from None
    finally:
        diffusers_logging.set_verbosity(verbosity)
    if pipeline.unet.config.in_channels != 9:
        raise WeightsError(
            f"{source} is no inpainting base: "
            f"its UNet reads {pipeline.unet.config.in_channels} channels, not 9"
        )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


class DiffusionInpainter:
    """Fills holes by denoising them, without words: the empty prompt. Implements Inpainter.

    Guidance is off. With the empty prompt both halves of classifier-free guidance are the same forward
    pass, so any guidance scale gives the same pixels at twice the work.

    Args:
        pipeline: The base, with its adapter if it has one.
        num_steps: Denoising steps.
        batch_size: Squares denoised together. One by default: then pixels cannot depend on what else is
            in the batch, and on a CPU larger ones are no faster.
        redirect: Whether, and how, what is painted in a hole is kept from looking at the hole.
    """

    def __init__(
        self,
        pipeline: StableDiffusionInpaintPipeline,
        *,
        num_steps: int = 50,
        batch_size: int = 1,
        redirect: RedirectConfig | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.num_steps = num_steps
        self.batch_size = batch_size
        self._redirection = None if redirect is None else Redirection(pipeline.unet, redirect)
        self.multiple: int = pipeline.vae_scale_factor * 2 ** (
            len(pipeline.unet.config.block_out_channels) - 1
        )
        self.resolution: int = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        with torch.no_grad():
            self._empty_prompt_1LD = pipeline.encode_prompt("", pipeline.device, 1, False)[0]

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        *,
        adapter: str | Path | None = None,
        num_steps: int = 50,
        batch_size: int = 1,
        redirect: RedirectConfig | None = None,
        device: str = "cpu",
    ) -> Self:
        """Loads a base and, if given, an adapter that is checked to take effect.

        Args:
            base: Hub id or local folder.
            adapter: Folder of a LoRA adapter in the hub's format.
            num_steps: Denoising steps.
            batch_size: See the class.
            redirect: See the class.
            device: Where to run.

        Raises:
            WeightsError: Something cannot be loaded, or the adapter would change nothing.
        """
        pipeline = load_base(base, device=device)
        if adapter is not None:
            load_lora(pipeline, adapter)
        return cls(pipeline, num_steps=num_steps, batch_size=batch_size, redirect=redirect)

    @torch.inference_mode()
    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Fills each hole. Shapes as in `Inpainter.inpaint`; sides must be a multiple of `multiple`."""
        results: list[np.ndarray] = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            results += self._inpaint_together(images[part], masks[part], seeds[part])
        return results

    def _inpaint_together(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        height, width = images[0].shape[:2]
        # Generators on the CPU, one a picture: the same seed means the same noise on every device and
        # in every batch. The VAE's own sampling draws from them too.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with self._redirected(masks):
            filled = self.pipeline(
                prompt_embeds=self._empty_prompt_1LD.expand(len(images), -1, -1),
                image=[Image.fromarray(image) for image in images],
                mask_image=[Image.fromarray(mask) for mask in masks],
                height=height,
                width=width,
                num_inference_steps=self.num_steps,
                guidance_scale=1.0,
                generator=generators,
                output_type="np",
                callback_on_step_end=self._after_step,
            ).images
        return list(np.rint(filled * 255).astype(np.uint8))

    def _redirected(self, masks: Sequence[np.ndarray]) -> AbstractContextManager[None]:
        if self._redirection is None:
            return nullcontext()
        hole_B1HW = torch.from_numpy(np.stack(masks))[:, None].to(self.pipeline.device).float() / 255
        return self._redirection.around(hole_B1HW)

    def _after_step(
        self, pipeline: StableDiffusionInpaintPipeline, step: int, timestep: object, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        if self._redirection is not None:
            self._redirection.after_step(step, self.num_steps)
        return tensors
