"""Trains the tiny base inpainter from nothing: first its VAE, then its UNet and text encoder.

The base learns what SD2-inpainting learnt: to rebuild whatever lay under a mask, objects included. So
it has, in small, the failure that the LoRA adapter and the removal options exist to mend: asked to
remove, it often replaces.

Legend of axes: B batch, C channels, H height, W width, L tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from textremove.inpaint.masks import dilate, random_mask

Progress = Callable[[str, int, int, float], None]
"""Called as progress(stage, step, num_steps, loss)."""


@dataclass(frozen=True, kw_only=True)
class VaeTrainConfig:
    """How the tiny VAE is trained, on random crops.

    Attributes:
        num_steps: Optimizer steps.
        batch_size: Crops in a step.
        crop: Side of a crop in pixels; the VAE is convolutional, so it works at any size after.
        learning_rate: Peak rate of AdamW, cosine to zero.
        kl_weight: Weight of the KL term. Tiny: it only keeps latents from drifting apart.
        seed: Seed of weights, crops and holes.
    """

    num_steps: int = 3000
    batch_size: int = 12
    crop: int = 64
    learning_rate: float = 2e-3
    kl_weight: float = 1e-5
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class UnetTrainConfig:
    """How the tiny UNet is trained, on cached latents.

    Attributes:
        num_steps: Optimizer steps.
        batch_size: Examples in a step.
        learning_rate: Peak rate of AdamW, cosine to zero after a short warm-up.
        prompt_dropout: How often the caption is replaced by the empty prompt.
        ema_decay: Decay of the moving average of weights that is kept.
        seed: Seed of noise, timesteps and order.
    """

    num_steps: int = 4000
    batch_size: int = 24
    learning_rate: float = 1.2e-3
    prompt_dropout: float = 0.5
    ema_decay: float = 0.999
    seed: int = 0


def cosine_rate(step: int, num_steps: int, *, warmup: int = 100) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(num_steps - warmup, 1)))


def _to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def _random_crops(rng: np.random.Generator, pictures: np.ndarray, config: VaeTrainConfig) -> torch.Tensor:
    """Crops, flipped at random; every fourth with a grey hole, since the VAE must encode those too."""
    side = pictures.shape[1]
    crops = np.empty((config.batch_size, config.crop, config.crop, 3), np.uint8)
    for k in range(config.batch_size):
        y, x = rng.integers(0, side - config.crop + 1, 2)
        crop = pictures[rng.integers(len(pictures)), y : y + config.crop, x : x + config.crop]
        crops[k] = crop[:, ::-1] if rng.random() < 0.5 else crop
        if k % 4 == 0:
            crops[k][random_mask(rng, config.crop) > 0] = 127
    return _to_tensor(crops)


def train_vae(vae: AutoencoderKL, pictures: np.ndarray, config: VaeTrainConfig, progress: Progress) -> None:
    """Trains a VAE in place, then sets its scaling factor so that latents have unit variance.

    Args:
        vae: With random weights.
        pictures: uint8 (N, side, side, 3).
        config: How.
        progress: Told the loss now and then.
    """
    rng = np.random.default_rng([config.seed, 10])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_rate(step, config.num_steps))
    vae.train()
    for step in range(config.num_steps):
        image_BCHW = _random_crops(rng, pictures, config)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            posterior = vae.encode(image_BCHW).latent_dist
            rebuilt_BCHW = vae.decode(posterior.sample()).sample
        error_BCHW = rebuilt_BCHW.float() - image_BCHW
        loss = (
            error_BCHW.abs().mean()
            + 2 * error_BCHW.square().mean()
            + config.kl_weight * posterior.kl().mean()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress("vae", step, config.num_steps, loss.item())
    vae.eval()
    latents = encode_latents(vae, pictures[:256]) / vae.config.scaling_factor
    vae.register_to_config(scaling_factor=float(1 / latents.std()))


def finetune_decoder(
    vae: AutoencoderKL, pictures: np.ndarray, config: VaeTrainConfig, progress: Progress
) -> None:
    """Sharpens the decoder in place with the encoder frozen, so that latents stay as they are."""
    rng = np.random.default_rng([config.seed, 11])
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_rate(step, config.num_steps))
    for step in range(config.num_steps):
        image_BCHW = _random_crops(rng, pictures, config)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                latents_BCHW = vae.encode(image_BCHW).latent_dist.mode()
            rebuilt_BCHW = vae.decode(latents_BCHW).sample
        error_BCHW = rebuilt_BCHW.float() - image_BCHW
        loss = error_BCHW.abs().mean() + 2 * error_BCHW.square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        progress("decoder", step, config.num_steps, loss.item())


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, images: np.ndarray, *, batch_size: int = 32) -> torch.Tensor:
    """Encodes pictures, uint8 (N, H, W, 3), to the mode of their scaled latents, float32 (N, 4, H/4, W/4)."""
    parts = []
    for start in range(0, len(images), batch_size):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mode = vae.encode(_to_tensor(images[start : start + batch_size])).latent_dist.mode()
        parts.append(mode.float() * vae.config.scaling_factor)
    return torch.cat(parts)


@dataclass(frozen=True, kw_only=True)
class LatentSet:
    """Latents of pictures and of their masked copies, computed once.

    Attributes:
        image_NCHW: float32, scaled latents of the whole pictures.
        masked_NCHW: float32, scaled latents of the pictures with the hole grey.
        mask_N1HW: float32, 0 or 1, at latent size.
        captions: What lies under each mask, "" where it is not one object.
    """

    image_NCHW: torch.Tensor
    masked_NCHW: torch.Tensor
    mask_N1HW: torch.Tensor
    captions: Sequence[str]

    def __len__(self) -> int:
        return len(self.captions)

    def save(self, file: Path) -> None:
        """Writes it as safetensors."""
        tensors = {"image": self.image_NCHW, "masked": self.masked_NCHW, "mask": self.mask_N1HW}
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(tensors, file, metadata={"captions": json.dumps(list(self.captions))})

    @classmethod
    def load(cls, file: Path) -> LatentSet:
        """Reads what `save` wrote."""
        with safe_open(file, framework="pt") as stored:
            return cls(
                image_NCHW=stored.get_tensor("image"),
                masked_NCHW=stored.get_tensor("masked"),
                mask_N1HW=stored.get_tensor("mask"),
                captions=json.loads(stored.metadata()["captions"]),
            )


def pretraining_mask(rng: np.random.Generator, object_mask: np.ndarray) -> tuple[np.ndarray, bool]:
    """Draws a training mask for a picture: on its object's outline, over the object, or anywhere.

    Returns:
        (mask, whether it is the object's own outline and so goes with the object's caption).
    """
    side = object_mask.shape[0]
    kind = rng.random()
    if kind < 0.18:
        return dilate(object_mask, int(rng.integers(2, 7))), True
    if kind < 0.3:
        ys, xs = np.nonzero(object_mask)
        jitter = rng.normal(0, 0.05 * side, 2)
        return random_mask(rng, side, center=(xs.mean() + jitter[0], ys.mean() + jitter[1])), False
    return random_mask(rng, side), False


def build_latent_set(
    vae: AutoencoderKL,
    pictures: np.ndarray,
    object_masks: np.ndarray,
    captions: Sequence[str],
    *,
    seed: int,
) -> LatentSet:
    """Draws one training mask per picture and encodes picture and masked picture.

    Args:
        vae: Trained.
        pictures: uint8 (N, side, side, 3), objects included.
        object_masks: uint8 (N, side, side), 255 where each picture's named object is.
        captions: The named objects.
        seed: Seed of the masks.
    """
    rng = np.random.default_rng([seed, 20])
    masked = pictures.copy()
    masks = np.empty(pictures.shape[:3], np.uint8)
    kept_captions = []
    for k, object_mask in enumerate(object_masks):
        masks[k], is_outline = pretraining_mask(rng, object_mask)
        masked[k][masks[k] > 0] = 127
        kept_captions.append(captions[k] if is_outline else "")
    image_NCHW = encode_latents(vae, pictures)
    mask_N1HW = F.interpolate(torch.from_numpy(masks)[:, None].float() / 255, size=image_NCHW.shape[-2:])
    return LatentSet(
        image_NCHW=image_NCHW,
        masked_NCHW=encode_latents(vae, masked),
        mask_N1HW=(mask_N1HW >= 0.5).float(),
        captions=kept_captions,
    )


def train_unet(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
    data: LatentSet,
    config: UnetTrainConfig,
    progress: Progress,
    *,
    on_checkpoint: Callable[[int], None] | None = None,
) -> None:
    """Trains UNet and text encoder in place on the v objective; their moving averages are kept."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng([config.seed, 30])
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_rate(step, config.num_steps))
    average = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    order = rng.permutation(len(data))
    unet.train()
    for step in range(config.num_steps):
        start = step * config.batch_size % len(data)
        if start < config.batch_size:
            order = rng.permutation(len(data))
        chosen = order[start : start + config.batch_size]
        prompts = ["" if rng.random() < config.prompt_dropout else data.captions[k] for k in chosen]
        tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        clean_BCHW = data.image_NCHW[chosen]
        noise_BCHW = torch.randn_like(clean_BCHW)
        # Nearly half of the draws in the noisiest tenth: with few sampling steps, the first decides.
        timestep_B = torch.randint(0, 1000, (len(chosen),))
        timestep_B = torch.where(torch.rand(len(chosen)) < 0.4, 900 + timestep_B // 10, timestep_B)
        noisy_BCHW = scheduler.add_noise(clean_BCHW, noise_BCHW, timestep_B)
        target_BCHW = scheduler.get_velocity(clean_BCHW, noise_BCHW, timestep_B)
        mask_B1HW = data.mask_N1HW[chosen]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            text_BLD = text_encoder(tokens.input_ids)[0]
            inputs = torch.cat([noisy_BCHW, mask_B1HW, data.masked_NCHW[chosen]], dim=1)
            predicted_BCHW = unet(inputs, timestep_B, text_BLD).sample
        # The hole is what counts; the rest is given and only keeps the latents of a kind.
        weight_B1HW = 0.2 + mask_B1HW / mask_B1HW.mean().clamp(min=0.01) * 0.8
        loss = ((predicted_BCHW.float() - target_BCHW).square() * weight_B1HW).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        average.step(parameters)
        progress("unet", step, config.num_steps, loss.item())
        if on_checkpoint is not None and (step + 1) % 500 == 0:
            average.store(parameters)
            average.copy_to(parameters)
            on_checkpoint(step + 1)
            average.restore(parameters)
    average.copy_to(parameters)
    unet.eval()
