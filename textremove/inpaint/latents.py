"""Examples as a base's frozen VAE sees them: pictures in, latents out.

Legend of axes: B batch, C channels, H height, W width; latents are at the VAE's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from textremove.checkpoint import digest_of
from textremove.errors import WeightsError
from textremove.inpaint.holes import Square

_TOGETHER = 8  # pictures that go through a VAE at a time: its activations are large


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """What a training step reads. All float32.

    Attributes:
        truth_BCHW: Scaled latents of the photo without the object: what is to be rebuilt.
        masked_BCHW: Scaled latents of the photo with the hole made grey.
        mask_B1HW: 1 in the hole, 0 elsewhere, at latent size.
    """

    truth_BCHW: Tensor
    masked_BCHW: Tensor
    mask_B1HW: Tensor

    def __len__(self) -> int:
        return self.truth_BCHW.shape[0]

    def part(self, which: slice) -> LatentBatch:
        """Some of its examples."""
        return LatentBatch(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def to(self, device: torch.device) -> LatentBatch:
        return LatentBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class LatentEncoder:
    """Encodes squares with a base's VAE.

    Args:
        vae: Stays frozen.
        resolution: Side of the base's squares in pixels.
    """

    def __init__(self, vae: AutoencoderKL, *, resolution: int) -> None:
        self.vae = vae.requires_grad_(False)
        self.resolution = resolution

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the VAE's weights and the factor that its latents are scaled by."""
        factor = torch.tensor(self.vae.config.scaling_factor)
        return digest_of({**self.vae.state_dict(), "scaling_factor": factor})

    @torch.no_grad()
    def encode(self, squares: Sequence[Square]) -> LatentBatch:
        """Encodes squares of this resolution, a few at a time; the latents are on the VAE's device."""
        parts = [
            self._encode_together(squares[start : start + _TOGETHER])
            for start in range(0, len(squares), _TOGETHER)
        ]
        names = [field.name for field in fields(LatentBatch)]
        return LatentBatch(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def _encode_together(self, squares: Sequence[Square]) -> LatentBatch:
        masks = np.stack([square.mask for square in squares])
        hole_B1HW = (torch.from_numpy(masks)[:, None].to(self.vae.device) > 127).float()
        # As the pipeline does: the hole is 0 in [-1, 1], and the mask is brought to latent size by nearest.
        masked_BCHW = self._to_unit([square.picture for square in squares]) * (1 - hole_B1HW)
        truth_BCHW = self._encode(self._to_unit([square.truth for square in squares]))
        return LatentBatch(
            truth_BCHW=truth_BCHW,
            masked_BCHW=self._encode(masked_BCHW),
            mask_B1HW=F.interpolate(hole_B1HW, size=truth_BCHW.shape[-2:]),
        )

    def _to_unit(self, images: Sequence[np.ndarray]) -> Tensor:
        """RGB uint8 (H, W, 3) each to float32 (B, 3, H, W) in [-1, 1] on the VAE's device."""
        stacked = torch.from_numpy(np.stack(images)).to(self.vae.device)
        return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1

    def _encode(self, image_BCHW: Tensor) -> Tensor:
        latents = self.vae.encode(image_BCHW.to(self.vae.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor


def load_encoder(source: str | Path, *, device: str = "cpu") -> LatentEncoder:
    """Loads the VAE of a base, and of its UNet only what it says of itself.

    Args:
        source: Hub id ("owner/name") or local folder in the hub's layout.
        device: Where its weights go.

    Raises:
        WeightsError: There is no such base, or it is none that an adapter can be trained on.
    """
    try:
        unet: dict[str, Any] = UNet2DConditionModel.load_config(str(source), subfolder="unet")
        check_trainable(unet, source)
        vae = AutoencoderKL.from_pretrained(str(source), subfolder="vae", dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"the VAE of {source} cannot be loaded ({said}); give a folder in the hub's layout, or download "
            "the base where there is a network"
        ) from None
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    return LatentEncoder(vae.eval().to(device), resolution=unet["sample_size"] * scale)


def check_trainable(unet: Any, source: str | Path) -> None:
    """Complains about a base that an adapter cannot be trained on.

    Args:
        unet: The configuration of its UNet.
        source: What to call it.

    Raises:
        WeightsError: It is none for inpainting, or one of SDXL.
    """
    if unet["in_channels"] != 9:
        raise WeightsError(f"{source} is no inpainting base: its UNet reads {unet['in_channels']} channels")
    if unet.get("addition_embed_type"):
        raise WeightsError(
            f"{source} is an SDXL base, whose UNet also reads sizes and a second text encoder; adapters are "
            "trained on bases of Stable Diffusion 1 and 2 only"
        )
