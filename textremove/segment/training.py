"""What training a segmenter is made of: loss, settings, optimizer, step (paper section 4.2).

Plain PyTorch; `textremove.onray` runs it over workers.

Legend of axes: B batch, C channels, H height, W width, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.preprocess import normalise


@dataclass(frozen=True, kw_only=True)
class SegmenterTrainConfig:
    """How a ConditionedUNet is trained. The defaults are the paper's.

    Attributes:
        epochs: At most this many passes over the training split.
        batch_size: Examples in a step, over all workers together.
        micro_batch_size: At most so many of them go through a worker's model at a time, their gradients are
            added up; 0 for all of its share.
        sync_batch_norm: Whether batch norm is taken over the batches of all workers, not of each.
        learning_rate: AdamW's base rate.
        text_learning_rate: Its rate for the text encoder; 0 freezes it.
        weight_decay: AdamW's decoupled weight decay.
        bce_weight: Weight of binary cross-entropy in the loss.
        dice_weight: Weight of the Dice loss.
        plateau_factor: What the rates are multiplied by on a plateau of the validation loss.
        plateau_patience: Epochs without improvement before that.
        early_stopping_patience: Epochs without improvement before training ends.
        max_grad_norm: Gradients are clipped to this norm.
        flip: Whether to mirror half of the examples, with the place words in their prompts.
        absent_share: Part of the training examples that are shown without their object, with an empty mask,
            so that the model learns to find nothing. None in the paper.
        seed: Seed of initial weights, order, flips and absences.
    """

    epochs: int = 40
    batch_size: int = 16
    micro_batch_size: int = 0
    sync_batch_norm: bool = True
    learning_rate: float = 1e-4
    text_learning_rate: float = 1e-5
    weight_decay: float = 1e-2
    bce_weight: float = 0.3
    dice_weight: float = 0.7
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    early_stopping_patience: int = 10
    max_grad_norm: float = 1.0
    flip: bool = True
    absent_share: float = 0.0
    seed: int = 0


_HOTTEST = 0.01  # of a picture's pixels: about as many as a small object has


def dice_loss(logits_B1HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Soft Dice loss per example: (B,) in [0, 1]. One pixel of smoothing keeps empty masks finite."""
    probability_BN, mask_BN = torch.sigmoid(logits_B1HW).flatten(1), mask_B1HW.flatten(1)
    shared_B = (probability_BN * mask_BN).sum(dim=1)
    return 1 - (2 * shared_B + 1) / (probability_BN.sum(dim=1) + mask_BN.sum(dim=1) + 1)


def absence_loss(logits_B1HW: Tensor) -> Tensor:
    """How surely something is seen where nothing is, per example: float (B,), 0 or more.

    Cross-entropy over the hottest hundredth of the pixels. Dice says nothing of an empty mask: it is nearly
    1 whether ten pixels are wrong or a thousand, and over all pixels the few wrong ones hardly weigh.
    """
    logits_BN = logits_B1HW.flatten(1)
    hottest = max(1, round(_HOTTEST * logits_BN.shape[1]))
    return F.softplus(logits_BN.topk(hottest, dim=1).values).mean(dim=1)


def segmentation_loss(logits_B1HW: Tensor, mask_B1HW: Tensor, config: SegmenterTrainConfig) -> Tensor:
    """The paper's hybrid loss per example: 0.3 BCE-with-logits + 0.7 Dice at its default weights.

    Per example, so that a mean over unequal shards of data can be taken exactly. Where the mask is empty,
    which no example of the paper's is, `absence_loss` stands in for Dice.

    Args:
        logits_B1HW: float, from `ConditionedUNet.forward`.
        mask_B1HW: float, 1 where the object is, 0 elsewhere.
        config: The weights.

    Returns:
        float (B,).
    """
    bce_B = (
        F.binary_cross_entropy_with_logits(logits_B1HW, mask_B1HW, reduction="none").flatten(1).mean(dim=1)
    )
    is_there_B = mask_B1HW.flatten(1).any(dim=1)
    overlap_B = torch.where(is_there_B, dice_loss(logits_B1HW, mask_B1HW), absence_loss(logits_B1HW))
    return config.bce_weight * bce_B + config.dice_weight * overlap_B


def build_optimizer(model: ConditionedUNet, config: SegmenterTrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate of its own for the text encoder, which is frozen when that rate is 0."""
    text = list(model.text_encoder.parameters())
    for parameter in text:
        parameter.requires_grad_(config.text_learning_rate > 0)
    known = {id(parameter) for parameter in text}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, object]] = [{"params": others, "lr": config.learning_rate}]
    if config.text_learning_rate > 0:
        groups.append({"params": text, "lr": config.text_learning_rate})
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


class TrainingStep:
    """Steps of an optimizer on batches, which are taken in parts where they are too large.

    Args:
        model: To be trained.
        config: Loss, clipping, size of the parts.
        optimizer: Of its parameters.
        bfloat16: Whether to compute in bfloat16 where that is safe.
        wrapped: Called in training instead of the model; exchanges gradients with other workers.
    """

    def __init__(
        self,
        model: ConditionedUNet,
        config: SegmenterTrainConfig,
        optimizer: torch.optim.Optimizer,
        *,
        bfloat16: bool,
        wrapped: DistributedDataParallel | None = None,
    ) -> None:
        self.model, self.config, self.optimizer = model, config, optimizer
        self.bfloat16, self.wrapped = bfloat16, wrapped
        self.device = next(model.parameters()).device

    def __call__(self, pictures: np.ndarray, masks: np.ndarray, prompts: list[str]) -> Tensor:
        """Takes a step on this worker's share of a batch, arguments as `losses`; gives its mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        count, total = len(prompts), torch.zeros((), device=self.device)
        most = self.config.micro_batch_size or count
        for start in range(0, count, most):
            part = slice(start, start + most)
            # Gradients are exchanged once, with the last part.
            waits = self.wrapped is not None and start + most < count
            with self.wrapped.no_sync() if self.wrapped and waits else nullcontext():
                loss_B, _ = self.losses(
                    self.wrapped or self.model, pictures[part], masks[part], prompts[part]
                )
                (loss_B.sum() / count).backward()
            total += loss_B.detach().sum()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return total / count

    def losses(
        self, model: nn.Module, pictures: np.ndarray, masks: np.ndarray, prompts: list[str]
    ) -> tuple[Tensor, Tensor]:
        """Computes loss per example, float32 (B,), and logits, float32 (B, 1, H, W).

        Args:
            model: The model, or what is wrapped around it.
            pictures: RGB uint8 (B, H, W, 3).
            masks: uint8 (B, H, W), 255 = object.
            prompts: B refined prompts.
        """
        mask_B1HW = (torch.from_numpy(masks)[:, None].float() / 255).to(self.device)
        input_ids_BL, attention_mask_BL = (ids.to(self.device) for ids in self.model.tokenize(prompts))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            logits_B1HW = model(normalise(pictures).to(self.device), input_ids_BL, attention_mask_BL)
        logits_B1HW = logits_B1HW.float()
        return segmentation_loss(logits_B1HW, mask_B1HW, self.config), logits_B1HW


def pretrain(
    model: ConditionedUNet,
    pictures: np.ndarray,
    masks: np.ndarray,
    prompts: Sequence[str],
    *,
    flip_prompt: Callable[[str], str],
    counterpart: Callable[[int, str], tuple[np.ndarray, np.ndarray, str]] | None = None,
    config: SegmenterTrainConfig,
    num_steps: int,
    progress: Callable[[str, int, int, float], None],
    on_checkpoint: Callable[[int], None] | None = None,
) -> None:
    """Trains a small model in place on pictures held in memory, with a one-cycle learning rate.

    This is how the shipped tiny preset comes to be; `jobs.train_segmenter` trains from prepared shards.

    Args:
        model: With random weights, or some to go on from.
        pictures: uint8 (N, side, side, 3), side as the model's image_size.
        masks: uint8 (N, side, side), 255 = object.
        prompts: N refined prompts.
        flip_prompt: Mirrors a prompt's place words.
        counterpart: Called as counterpart(number of an example, name of the draw); gives a picture, its mask
            and a prompt, mostly for something that is not in it. `config.absent_share` of each batch are
            such counterparts of examples that are in the batch too: only what tells the two apart can lower
            both losses.
        config: Loss, rates, batch size, seed.
        num_steps: Optimizer steps.
        progress: Called as progress("segmenter", step, num_steps, loss).
        on_checkpoint: Called every 1,000 steps with the number of steps done.
    """
    rng = np.random.default_rng([config.seed, 40])
    optimizer = build_optimizer(model, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rates, total_steps=num_steps, pct_start=0.1
    )
    take_step = TrainingStep(model, config, optimizer, bfloat16=True)
    model.train()
    num_absent = round(config.absent_share * config.batch_size) if counterpart is not None else 0
    num_present = config.batch_size - num_absent
    for step in range(num_steps):
        chosen = np.resize(rng.integers(len(pictures), size=num_present), config.batch_size).tolist()
        picture_BHWC, mask_BHW, texts = pictures[chosen], masks[chosen], [prompts[k] for k in chosen]
        if counterpart is not None:
            for k in range(num_present, config.batch_size):
                picture_BHWC[k], mask_BHW[k], texts[k] = counterpart(chosen[k], f"{step} {k}")
        for k in np.flatnonzero(rng.random(config.batch_size) < (0.5 if config.flip else 0)).tolist():
            picture_BHWC[k], mask_BHW[k] = picture_BHWC[k, :, ::-1].copy(), mask_BHW[k, :, ::-1].copy()
            texts[k] = flip_prompt(texts[k])
        loss = take_step(picture_BHWC, mask_BHW, texts)
        schedule.step()
        progress("segmenter", step, num_steps, loss.item())
        if on_checkpoint is not None and (step + 1) % 1000 == 0:
            on_checkpoint(step + 1)
            model.train()
    model.eval()
