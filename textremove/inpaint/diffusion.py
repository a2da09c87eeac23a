"""The diffusion inpainter: any 9-channel Stable Diffusion or SDXL inpainting base, and its adapters."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import StableDiffusionXLInpaintPipeline
from PIL import Image
from torch import Tensor

from textremove.errors import AdapterError, ConfigError
from textremove.inpaint.base import Pipeline, load_base
from textremove.inpaint.lora import choose_lora, load_lora
from textremove.inpaint.options import BASE, DiffusionOptions, check_adapter_names
from textremove.inpaint.redirect import Redirection

LEAST_TEXTURED = 256
"""Resolution in pixels from which a base is taken to paint texture; SD inpainting bases have 512 and more."""


class DiffusionInpainter:
    """Fills holes by denoising them. Implements Inpainter.

    Without words and guidance by default. With the empty prompt both halves of classifier-free guidance are
    the same forward pass, so any guidance scale gives the same pixels at twice the work.

    Args:
        pipeline: The base, with its adapters if it has any; the first is used unless `using` says another.
        num_steps: Denoising steps.
        batch_size: Squares denoised together. One by default: then pixels cannot depend on what else is
            in the batch, and on a CPU larger ones are no faster.
        options: Words, guidance, and redirected attention.

    Raises:
        ConfigError: Fewer than one step.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        num_steps: int = 50,
        batch_size: int = 1,
        options: DiffusionOptions = DiffusionOptions(),
    ) -> None:
        if num_steps < 1:
            raise ConfigError(f"--num-steps must be at least 1, not {num_steps}")
        self.pipeline = pipeline
        self.num_steps = num_steps
        self.batch_size = batch_size
        self.options = options
        self._redirection = None
        if options.redirect:
            self._redirection = Redirection(
                pipeline.unet,
                until=options.redirect_until,
                min_tokens=options.redirect_min_tokens,
                coverage=options.redirect_coverage,
                contrast=options.redirect_contrast,
            )
        unet = pipeline.unet.config
        self.multiple: int = pipeline.vae_scale_factor * 2 ** (len(unet.block_out_channels) - 1)
        self.resolution: int = (
            -(-unet.sample_size * pipeline.vae_scale_factor // self.multiple) * self.multiple
        )
        self.textured: bool = self.resolution >= LEAST_TEXTURED
        self.adapters: tuple[str, ...] = tuple(getattr(pipeline.unet, "peft_config", ()))
        self._adapter = self.adapters[0] if self.adapters else BASE
        self._one_at_a_time = threading.Lock()  # the adapter is a state of the UNet
        with torch.no_grad():
            self._text = _encode(pipeline, options)

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        *,
        adapter: str | Path | None = None,
        adapters: Mapping[str, str | Path] | None = None,
        num_steps: int = 50,
        batch_size: int = 1,
        options: DiffusionOptions = DiffusionOptions(),
        device: str = "cpu",
    ) -> Self:
        """Loads a base and, if given, adapters that are checked to take effect.

        Args:
            base: Hub id or local folder.
            adapter: Folder of a LoRA adapter in the hub's format; it is used unless `using` says another.
            adapters: More of them, by name.
            num_steps: Denoising steps.
            batch_size: See the class.
            options: See the class.
            device: Where to run.

        Raises:
            WeightsError: Something cannot be loaded, or an adapter would change nothing.
            ConfigError: A name that no adapter can have.
        """
        check_adapter_names(adapters or ())
        pipeline = load_base(base, device=device)
        if adapter is not None:
            load_lora(pipeline, adapter)
        for name, folder in (adapters or {}).items():
            load_lora(pipeline, folder, name=name)
        inpainter = cls(pipeline, num_steps=num_steps, batch_size=batch_size, options=options)
        # Without an adapter of its own, the base is what it is; the named ones are for who asks for them.
        return inpainter if adapter is not None or not adapters else inpainter.using(BASE)

    def using(self, adapter: str) -> Self:
        """The same inpainter with another of its adapters, or "base" for none; weights are shared.

        Raises:
            AdapterError: There is no adapter of this name.
        """
        if adapter not in (*self.adapters, BASE):
            raise AdapterError(f"no adapter {adapter!r}; there are {', '.join((*self.adapters, BASE))}")
        other = copy.copy(self)
        other._adapter = adapter
        return other

    @torch.inference_mode()
    def inpaint(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Fills each hole. Shapes as in `Inpainter.inpaint`; sides must be a multiple of `multiple`."""
        results: list[np.ndarray] = []
        with self._one_at_a_time:
            if self.adapters:
                choose_lora(self.pipeline.unet, self._adapter)
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
                **{name: text.repeat_interleave(len(images), dim=0) for name, text in self._text.items()},
                image=[Image.fromarray(image) for image in images],
                mask_image=[Image.fromarray(mask) for mask in masks],
                height=height,
                width=width,
                num_inference_steps=self.num_steps,
                strength=1.0,  # SDXL's default, a hair less, would drop a step
                guidance_scale=self.options.guidance_scale,
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
        self, pipeline: Pipeline, step: int, timestep: object, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        if self._redirection is not None:
            self._redirection.after_step(step, self.num_steps)
        return tensors


def _encode(pipeline: Pipeline, options: DiffusionOptions) -> dict[str, Tensor]:
    """The pipeline's arguments for its words, encoded once: each (1, ...)."""
    guided = options.guidance_scale > 1
    words = {
        "prompt": options.positive_prompt,
        "negative_prompt": options.negative_prompt,
        "device": pipeline.device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": guided,
    }
    names = ["prompt_embeds", "negative_prompt_embeds"]
    if isinstance(pipeline, StableDiffusionXLInpaintPipeline):
        names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    encoded = dict(zip(names, pipeline.encode_prompt(**words), strict=True))
    return {name: text for name, text in encoded.items() if guided or not name.startswith("negative")}
