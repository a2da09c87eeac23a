"""The latent diffusion objective of inpainting (paper section 4.3), and the examples it is taken on.

Legend of axes: B batch, C channels, H height, W width, L tokens, D token width; latents are at the
VAE's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor

from textremove.inpaint.crop import FillConfig, cut_image, cut_mask, open_hole


@dataclass(frozen=True, kw_only=True)
class InpaintTrainConfig:
    """How an adapter is trained. The defaults are the paper's.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Examples in a step, on each worker.
        learning_rate: AdamW's rate.
        weight_decay: AdamW's decoupled weight decay.
        max_grad_norm: Gradients are clipped to this norm.
        noisiest_share: Share of the timesteps that are drawn from the noisiest, the others from all. Above 0
            for a base that is sampled in a few steps, where the first decides nearly everything.
        noisiest_range: Which those are, as a fraction of all timesteps.
        seed: Seed of noise, timesteps, order and initial adapter.
    """

    epochs: int = 2
    batch_size: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    noisiest_share: float = 0.0
    noisiest_range: float = 0.1
    seed: int = 0


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

    def select(self, indices: Tensor) -> LatentBatch:
        """The examples at the given indices, int64 (B,)."""
        return LatentBatch(
            truth_BCHW=self.truth_BCHW[indices],
            masked_BCHW=self.masked_BCHW[indices],
            mask_B1HW=self.mask_B1HW[indices],
        )


class InpaintObjective:
    """Encodes examples with a base's frozen VAE and takes the loss of its UNet.

    Args:
        pipeline: The base. Its UNet is the one that is trained; the rest stays frozen.
        fill: How holes are cut out: as in use.
        noisiest_share: See InpaintTrainConfig.
        noisiest_range: See InpaintTrainConfig.
    """

    def __init__(
        self,
        pipeline: StableDiffusionInpaintPipeline,
        fill: FillConfig = FillConfig(),
        *,
        noisiest_share: float = 0.0,
        noisiest_range: float = 0.1,
    ) -> None:
        self.pipeline = pipeline
        self.noisiest_share = noisiest_share
        self.noisiest_range = noisiest_range
        self.fill = fill
        self.resolution: int = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        pipeline.vae.requires_grad_(False)
        pipeline.text_encoder.requires_grad_(False)
        # Trained without words, as the paper does: the empty prompt's embedding, computed once.
        with torch.no_grad():
            self.empty_prompt_1LD: Tensor = pipeline.encode_prompt("", pipeline.device, 1, False)[0]

    def cut(
        self, image: np.ndarray, mask: np.ndarray, truth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cuts an example's square out, exactly as it is cut in use.

        Args:
            image: RGB uint8 (height, width, 3), with the object.
            mask: uint8 (height, width), not empty.
            truth: RGB uint8 (height, width, 3), without the object.

        Returns:
            (masked, mask, truth): RGB uint8 (R, R, 3) with the hole grey, uint8 (R, R), RGB uint8 (R, R, 3),
            R being the base's resolution.
        """
        hole = open_hole(mask, resolution=self.resolution, config=self.fill)
        square_mask = cut_mask(hole.mask, hole.window, self.resolution)
        masked = cut_image(image, hole.window, self.resolution).copy()
        return masked, square_mask, cut_image(truth, hole.window, self.resolution)

    @torch.no_grad()
    def encode(self, masked: np.ndarray, masks: np.ndarray, truths: np.ndarray) -> LatentBatch:
        """Encodes squares from `cut` into latents.

        Args:
            masked: RGB uint8 (B, R, R, 3), photos with the object still in them.
            masks: uint8 (B, R, R).
            truths: RGB uint8 (B, R, R, 3).
        """
        device = self.pipeline.device
        hole_B1HW = (torch.from_numpy(masks)[:, None].to(device) > 127).float()
        # As the pipeline does: the hole is 0 in [-1, 1], and the mask is brought to latent size by nearest.
        masked_BCHW = self._to_unit(masked) * (1 - hole_B1HW)
        truth_BCHW = self._encode(self._to_unit(truths))
        return LatentBatch(
            truth_BCHW=truth_BCHW,
            masked_BCHW=self._encode(masked_BCHW),
            mask_B1HW=F.interpolate(hole_B1HW, size=truth_BCHW.shape[-2:]),
        )

    def _to_unit(self, images: np.ndarray) -> Tensor:
        """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1] on the base's device."""
        return torch.from_numpy(images).to(self.pipeline.device).permute(0, 3, 1, 2).float() / 127.5 - 1

    def _encode(self, image_BCHW: Tensor) -> Tensor:
        vae = self.pipeline.vae
        return vae.encode(image_BCHW.to(vae.dtype)).latent_dist.mode().float() * vae.config.scaling_factor

    def loss(self, unet: torch.nn.Module, batch: LatentBatch, generator: torch.Generator) -> Tensor:
        """Mean squared error to the scheduler's own target, per example: float (B,).

        Args:
            unet: The base's UNet with its adapter, possibly wrapped for data-parallel training.
            batch: Latents.
            generator: Draws timesteps and noise; on the CPU, so that a seed means the same everywhere.

        Raises:
            ValueError: The base predicts neither epsilon nor v.
        """
        scheduler, device = self.pipeline.scheduler, self.pipeline.device
        size = len(batch)
        timestep_B = self._timesteps(size, generator).to(device)
        noise_BCHW = torch.randn(batch.truth_BCHW.shape, generator=generator).to(device)
        noisy_BCHW = scheduler.add_noise(batch.truth_BCHW, noise_BCHW, timestep_B)
        match scheduler.config.prediction_type:
            case "epsilon":
                target_BCHW = noise_BCHW
            case "v_prediction":
                target_BCHW = scheduler.get_velocity(batch.truth_BCHW, noise_BCHW, timestep_B)
            case other:
                raise ValueError(f"no training target for a base that predicts {other!r}")
        inputs_BCHW = torch.cat([noisy_BCHW, batch.mask_B1HW, batch.masked_BCHW], dim=1)
        text_BLD = self.empty_prompt_1LD.expand(size, -1, -1)
        predicted_BCHW = unet(inputs_BCHW, timestep_B, encoder_hidden_states=text_BLD).sample
        return (predicted_BCHW.float() - target_BCHW).square().flatten(1).mean(dim=1)

    def _timesteps(self, size: int, generator: torch.Generator) -> Tensor:
        """Draws timesteps, int64 (B,)."""
        count = self.pipeline.scheduler.config.num_train_timesteps
        timestep_B = torch.randint(count, (size,), generator=generator)
        if not self.noisiest_share:
            return timestep_B
        noisiest_B = torch.rand(size, generator=generator) < self.noisiest_share
        from_the_noisiest_B = count - 1 - (timestep_B * self.noisiest_range).long()
        return torch.where(noisiest_B, from_the_noisiest_B, timestep_B)
