"""An adapter in training on a frozen base: its optimizer, its average, one step at a time. Plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from textremove.checkpoint import digest_of
from textremove.inpaint.latents import LatentBatch
from textremove.inpaint.lora import LoraSpec, add_lora, continue_lora
from textremove.inpaint.objective import InpaintObjective, InpaintTrainConfig


class AdapterTraining:
    """Trains a new adapter on a pipeline's UNet, which is frozen.

    Args:
        pipeline: The base; its UNet gets the adapter.
        spec: The adapter's shape.
        config: How to train.
        bfloat16: Whether to compute in bfloat16 where that is safe.
    """

    def __init__(
        self,
        pipeline: StableDiffusionInpaintPipeline,
        spec: LoraSpec,
        config: InpaintTrainConfig,
        *,
        bfloat16: bool = False,
    ) -> None:
        self.config, self.bfloat16 = config, bfloat16
        self.unet: nn.Module = pipeline.unet
        self.objective = InpaintObjective(pipeline, config)
        torch.manual_seed(config.seed)  # the same first adapter everywhere
        self.parameters = add_lora(pipeline.unet, spec)
        if config.gradient_checkpointing:
            pipeline.unet.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._average = self._new_average()

    def _new_average(self) -> EMAModel | None:
        decay = self.config.ema_decay
        return EMAModel(self.parameters, decay=decay) if decay else None

    def start_from(self, adapter: str | Path) -> None:
        """Begins with a saved adapter.

        Raises:
            WeightsError: It is missing, or of another shape.
        """
        continue_lora(self.unet, adapter)
        self._average = self._new_average()

    def step(
        self, batch: LatentBatch, seeds: Sequence[int], *, wrapped: DistributedDataParallel | None = None
    ) -> Tensor:
        """Takes a step of the optimizer, `config.batch_size` examples at a time.

        Args:
            batch: Of any size; with several workers, this one's share, of the same size on all.
            seeds: See `InpaintObjective.loss`.
            wrapped: Called instead of the UNet; exchanges gradients with other workers, once a step.

        Returns:
            The loss of every example, float (B,), without its graph.
        """
        self.unet.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        for start in range(0, len(batch), self.config.batch_size):
            part = slice(start, start + self.config.batch_size)
            is_last = part.stop >= len(batch)
            with nullcontext() if wrapped is None or is_last else wrapped.no_sync():
                loss_B = self.loss(
                    batch.part(part), seeds[part], unet=self.unet if wrapped is None else wrapped
                )
                (loss_B.sum() / len(batch)).backward()
            losses.append(loss_B.detach())
        nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        if self._average is not None:
            self._average.step(self.parameters)
        return torch.cat(losses)

    @torch.no_grad()
    def validation_loss(self, batch: LatentBatch, seeds: Sequence[int]) -> Tensor:
        """Plain loss of every example, float (B,), as the weights in place give it."""
        self.unet.eval()
        return self.loss(batch, seeds, unet=self.unet, weighted=False)

    def loss(
        self, batch: LatentBatch, seeds: Sequence[int], *, unet: nn.Module, weighted: bool = True
    ) -> Tensor:
        """As `InpaintObjective.loss`, in bfloat16 if asked."""
        device = self.objective.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.bfloat16):
            return self.objective.loss(unet, batch, seeds, weighted=weighted)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Puts the average in place for the length of a with-block; does nothing where none is kept."""
        if self._average is None:
            yield
            return
        self._average.store(self.parameters)
        self._average.copy_to(self.parameters)
        try:
            yield
        finally:
            self._average.restore(self.parameters)

    def base_digest(self) -> str:
        """SHA-256 over the base's UNet, which training must leave as it is."""
        state = self.unet.state_dict()
        return digest_of({k.replace(".base_layer", ""): v for k, v in state.items() if ".lora_" not in k})

    def adapter_digest(self) -> str:
        """SHA-256 over the adapter as it is now."""
        return digest_of(self._adapter())

    def _adapter(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.unet.named_parameters() if value.requires_grad}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: tensors and numbers."""
        return {
            "adapter": self._adapter(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`.

        Raises:
            RuntimeError: It is of another adapter.
        """
        if state["adapter"].keys() != self._adapter().keys():
            raise RuntimeError("the checkpoint is of another adapter")
        self.unet.load_state_dict(state["adapter"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
