"""The latent diffusion objective of inpainting (paper section 4.3), and how an adapter is trained by it.

Legend of axes: B batch, C channels, H height, W width, L tokens, D token width; latents are at the
VAE's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.training_utils import compute_snr
from torch import Tensor, nn

from textremove.inpaint.latents import LatentBatch, check_trainable


@dataclass(frozen=True, kw_only=True)
class InpaintTrainConfig:
    """How an adapter is trained. The defaults are the paper's.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Examples that go through the UNet together, on each worker.
        accumulation: So many batches on each worker make one step of the optimizer.
        gradient_checkpointing: Whether to compute activations again in the backward pass instead of keeping
            them: less memory, more time.
        learning_rate: AdamW's rate.
        weight_decay: AdamW's decoupled weight decay.
        max_grad_norm: Gradients are clipped to this norm.
        ema_decay: When above 0, what is validated and saved is the exponential moving average of the
            adapter over steps, with this decay, which is reached slowly.
        min_snr_gamma: When above 0, losses are weighted by Min-SNR (Hang et al. 2023, arXiv:2303.09556) with
            this gamma; theirs is 5. With a terminal SNR of zero it teaches a base that predicts v nothing
            about its first step, so it is not for one that is sampled in one or two.
        noisiest_share: Share of the timesteps that are drawn from the noisiest, the others from all. Above 0
            for a base that is sampled in a few steps, where the first decides nearly everything.
        noisiest_range: Which those are, as a fraction of all timesteps.
        box_masks: Share of the examples whose hole is the box around the object instead of its shape.
        random_masks: Share of the examples whose hole is a random one, on the photo without the object.
        seed: Seed of noise, timesteps, holes, order and initial adapter.
    """

    epochs: int = 2
    batch_size: int = 1
    accumulation: int = 1
    gradient_checkpointing: bool = False
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    min_snr_gamma: float = 0.0
    noisiest_share: float = 0.0
    noisiest_range: float = 0.1
    box_masks: float = 0.0
    random_masks: float = 0.0
    seed: int = 0


def example_seed(seed: int, epoch: int, number: int) -> int:
    """Derives what an example's noise is drawn from: not from its place in a batch, nor from the worker."""
    state = np.random.SeedSequence([seed, epoch, number]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


class InpaintObjective:
    """Takes the loss of a base's UNet on latents.

    Args:
        pipeline: The base. Its UNet is the one that is trained; the rest stays frozen.
        config: Which timesteps are drawn, and how losses are weighted.

    Raises:
        WeightsError: The base is none that an adapter can be trained on.
    """

    def __init__(self, pipeline: StableDiffusionInpaintPipeline, config: InpaintTrainConfig) -> None:
        check_trainable(pipeline.unet.config, pipeline.unet.config.get("_name_or_path", "the base"))
        self.scheduler, self.config = pipeline.scheduler, config
        self.device = pipeline.device
        # Trained without words, as the paper does: the empty prompt's embedding, computed once.
        with torch.no_grad():
            self.empty_prompt_1LD: Tensor = pipeline.encode_prompt("", pipeline.device, 1, False)[0]

    def loss(self, unet: nn.Module, batch: LatentBatch, seeds: Sequence[int], *, weighted: bool) -> Tensor:
        """Mean squared error to the scheduler's own target, per example: float (B,).

        Args:
            unet: The base's UNet with its adapter, possibly wrapped for data-parallel training.
            batch: Latents.
            seeds: One for each example: its timestep and noise are drawn from it, on the CPU, so that a seed
                means the same everywhere and in every batch.
            weighted: Whether to weight by Min-SNR, if the config says so.

        Raises:
            ValueError: The base predicts neither epsilon nor v.
        """
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        timestep_B = torch.cat([self._timesteps(1, generator) for generator in generators]).to(self.device)
        shape = (1, *batch.truth_BCHW.shape[1:])
        noise_BCHW = torch.cat([torch.randn(shape, generator=g) for g in generators]).to(self.device)
        noisy_BCHW = self.scheduler.add_noise(batch.truth_BCHW, noise_BCHW, timestep_B)
        match self.scheduler.config.prediction_type:
            case "epsilon":
                target_BCHW = noise_BCHW
            case "v_prediction":
                target_BCHW = self.scheduler.get_velocity(batch.truth_BCHW, noise_BCHW, timestep_B)
            case other:
                raise ValueError(f"no training target for a base that predicts {other!r}")
        inputs_BCHW = torch.cat([noisy_BCHW, batch.mask_B1HW, batch.masked_BCHW], dim=1)
        text_BLD = self.empty_prompt_1LD.expand(len(batch), -1, -1)
        predicted_BCHW = unet(inputs_BCHW, timestep_B, encoder_hidden_states=text_BLD).sample
        loss_B = (predicted_BCHW.float() - target_BCHW).square().flatten(1).mean(dim=1)
        return loss_B * self._weights(timestep_B) if weighted and self.config.min_snr_gamma else loss_B

    def _timesteps(self, size: int, generator: torch.Generator) -> Tensor:
        """Draws timesteps, int64 (B,)."""
        count = self.scheduler.config.num_train_timesteps
        timestep_B = torch.randint(count, (size,), generator=generator)
        if not self.config.noisiest_share:
            return timestep_B
        noisiest_B = torch.rand(size, generator=generator) < self.config.noisiest_share
        from_the_noisiest_B = count - 1 - (timestep_B * self.config.noisiest_range).long()
        return torch.where(noisiest_B, from_the_noisiest_B, timestep_B)

    def _weights(self, timestep_B: Tensor) -> Tensor:
        """Min-SNR: the error of the rebuilt picture counts min(SNR, gamma), whatever is predicted.

        An error of epsilon is SNR times, one of v SNR + 1 times that of the picture. Written without a
        division by SNR, which is zero at the last step of some schedules.
        """
        snr_B = compute_snr(self.scheduler, timestep_B)
        capped_B = snr_B.clamp(max=self.config.min_snr_gamma)
        if self.scheduler.config.prediction_type == "v_prediction":
            return capped_B / (snr_B + 1)
        return torch.where(snr_B > self.config.min_snr_gamma, capped_B / snr_B, 1.0)
