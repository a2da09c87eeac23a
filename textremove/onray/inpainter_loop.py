"""What every worker does when an adapter is fine-tuned (paper section 4.3): encode once, train on latents.

Legend of axes: B batch, C channels, H height, W width; latents are at the VAE's size.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from torch import Tensor, nn

from textremove.checkpoint import load_tensors, save_tensors
from textremove.errors import ConfigError
from textremove.images import decode_image, decode_mask
from textremove.inpaint.base import load_base
from textremove.inpaint.lora import LoraSpec, add_lora, continue_lora, save_lora
from textremove.inpaint.objective import InpaintObjective, InpaintTrainConfig, LatentBatch
from textremove.onray.training_job import WorkerOrders
from textremove.onray.workers import (
    load_state,
    mean_loss,
    my_device,
    my_place,
    my_tracker,
    new_checkpoint_folder,
    report_checkpoint,
    restored,
    save_state,
    sum_over_workers,
)
from textremove.pipe.prepared import prepared_rows

ADAPTER_FOLDER, LAST_FOLDER = "adapter", "last"
PICTURE_COLUMNS = ("image", "mask", "truth")
_ENCODE_TOGETHER = 8
_SAY_EVERY_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class InpainterLoop:
    """What a worker is told.

    Attributes:
        orders: What every training worker is told.
        base: Hub id or folder of the base; on a cluster, one that every node sees.
        lora: The adapter's shape.
        init: Folder of an adapter to train further; "" for a new one.
        training: How to train.
        num_validation: Validation examples at most; 0 for all.
    """

    orders: WorkerOrders
    base: str
    lora: LoraSpec
    init: str
    training: InpaintTrainConfig
    num_validation: int


@dataclass(frozen=True, kw_only=True)
class TuningProgress:
    """Where fine-tuning stands after an epoch; saved with every checkpoint.

    Attributes:
        epoch: Epochs done.
        base_loss: Validation loss of the base, before the adapter had learnt anything.
        base_digest: SHA-256 over the frozen weights, found the same before and after every epoch.
        num_trainable: Parameters of the adapter.
        num_frozen: Parameters of the frozen UNet.
        history: Metrics of every epoch.
    """

    epoch: int = 0
    base_loss: float = 0.0
    base_digest: str = ""
    num_trainable: int = 0
    num_frozen: int = 0
    history: tuple[dict[str, float], ...] = ()


def finetune_inpainter_worker(config: dict[str, Any]) -> None:
    """The training loop; Ray Train runs it on every worker."""
    _Worker(config["loop"]).run()


class _Worker:
    def __init__(self, loop: InpainterLoop) -> None:
        self.loop, self.training = loop, loop.training
        self.place, self.device = my_place(), my_device(gpu=loop.orders.gpu)
        torch.manual_seed(self.training.seed)  # every worker draws the same first adapter
        self.pipeline = load_base(loop.base, device=str(self.device))
        self.unet: nn.Module = self.pipeline.unet
        self.digest = _digest(self.unet)
        self.parameters = add_lora(self.pipeline.unet, loop.lora)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.training.learning_rate, weight_decay=self.training.weight_decay
        )
        self.progress = self._resume()
        self.objective = InpaintObjective(
            self.pipeline,
            noisiest_share=self.training.noisiest_share,
            noisiest_range=self.training.noisiest_range,
        )
        self.wrapped = self.unet
        if self.place.size > 1:  # only the adapter's gradients are exchanged; nothing else has any
            self.wrapped = ray.train.torch.prepare_model(self.unet, move_to_device=False)
        self.tracker = my_tracker(loop.orders, self.place)

    def run(self) -> None:
        if self.progress.epoch >= self.training.epochs:
            return
        latents = self._encode_train()
        validation = list(self._encode_validation())
        if self.progress.epoch == 0:
            trainable = sum(parameter.numel() for parameter in self.parameters)
            self.progress = replace(
                self.progress,
                base_loss=self._validate(validation),
                base_digest=self.digest,
                num_trainable=trainable,
                num_frozen=sum(parameter.numel() for parameter in self.unet.parameters()) - trainable,
            )
            self.tracker.log_metrics({"val_loss": self.progress.base_loss}, step=0)
            self._say(f"validation loss of the base without an adapter: {self.progress.base_loss:.4f}")
            if self.loop.init:
                continue_lora(self.pipeline.unet, self.loop.init)
        else:
            self._say(f"going on after epoch {self.progress.epoch}, from the last checkpoint")
            # Perhaps the worker was lost between saving and telling.
            self.tracker.log_metrics(self.progress.history[-1], step=self.progress.epoch)
        while self.progress.epoch < self.training.epochs:
            self._epoch(self.progress.epoch + 1, latents, validation)

    def _epoch(self, epoch: int, latents: LatentBatch, validation: list[tuple[int, LatentBatch]]) -> None:
        started = time.monotonic()
        train_loss = self._train(epoch, latents)
        train_seconds = time.monotonic() - started
        val_loss = self._validate(validation)
        if not np.isfinite(val_loss):
            raise ConfigError("the loss is not finite any more; take a lower --learning-rate")
        if _digest(self.unet) != self.digest:
            raise RuntimeError("weights of the frozen base changed in training")
        num_examples = sum_over_workers(np.array([len(latents)]), self.device)[0]
        metrics = {
            "train_loss": train_loss,
            "val_loss": val_loss,
            "examples_per_second": float(num_examples) / train_seconds,
            "epoch_seconds": time.monotonic() - started,
        }
        self.progress = replace(self.progress, epoch=epoch, history=(*self.progress.history, metrics))
        folder = self._checkpoint() if self.place.rank == 0 else None
        report_checkpoint({"epoch": epoch, "val_loss": val_loss}, folder, name=f"epoch-{epoch:04d}")
        self.tracker.log_metrics(metrics, step=epoch)
        self._say(
            f"epoch {epoch} of {self.training.epochs}: train loss {train_loss:.4f}, "
            f"validation loss {val_loss:.4f}, {metrics['epoch_seconds']:.0f} s; base unchanged"
        )

    def _train(self, epoch: int, latents: LatentBatch) -> float:
        training = self.training
        generator = torch.Generator().manual_seed(hash((training.seed, epoch, self.place.rank)))
        order = torch.randperm(len(latents), generator=generator)
        losses: list[Tensor] = []
        said = time.monotonic()
        self.wrapped.train()
        for start in range(0, len(latents), training.batch_size):
            batch = latents.select(order[start : start + training.batch_size])
            loss = self._loss(self.wrapped, batch, generator).mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, training.max_grad_norm)
            self.optimizer.step()
            losses.append(loss.detach())
            if time.monotonic() - said > _SAY_EVERY_SECONDS:
                said = time.monotonic()
                self._say(
                    f"epoch {epoch}: {start + len(batch):,} of {len(latents):,} examples on each worker"
                )
        return mean_loss(losses, self.device)

    @torch.no_grad()
    def _validate(self, validation: list[tuple[int, LatentBatch]]) -> float:
        """Mean loss over all validation examples, each with noise of its own that is the same every time."""
        self.unet.eval()
        sums = np.zeros(2)
        for number, example in validation:
            generator = torch.Generator().manual_seed(number)
            sums += [self._loss(self.unet, example, generator).double().item(), 1]
        total, count = sum_over_workers(sums, self.device)
        return float(total / count)

    def _loss(self, unet: nn.Module, batch: LatentBatch, generator: torch.Generator) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.loop.orders.bfloat16):
            return self.objective.loss(unet, batch, generator)

    def _encode_train(self) -> LatentBatch:
        """Encodes this worker's share once; the VAE is not needed again."""
        started = time.monotonic()
        batches = ray.train.get_dataset_shard("train").iter_batches(batch_size=_ENCODE_TOGETHER)
        rows = (
            {name: batch[name][k] for name in PICTURE_COLUMNS}
            for batch in batches
            for k in range(len(batch["image"]))
        )
        parts = list(self._encode(rows, together=_ENCODE_TOGETHER))
        latents = LatentBatch(
            **{
                field.name: torch.cat([getattr(p, field.name) for p in parts])
                for field in fields(LatentBatch)
            }
        )
        seconds = time.monotonic() - started
        self._say(
            f"encoded {len(latents):,} examples on each worker in {seconds:.0f} s; "
            "from here on training reads latents only"
        )
        return latents

    def _encode_validation(self) -> Iterator[tuple[int, LatentBatch]]:
        """Yields (row number, latents) of this worker's share: every size-th row, so that none is dropped."""
        rows = prepared_rows(self.loop.orders.data, split="val", columns=list(PICTURE_COLUMNS))
        limited = islice(rows, self.loop.num_validation or None)
        mine = islice(limited, self.place.rank, None, self.place.size)
        for k, latents in enumerate(self._encode(mine, together=1)):
            yield self.place.rank + k * self.place.size, latents

    def _encode(self, rows: Iterable[dict[str, Any]], *, together: int) -> Iterator[LatentBatch]:
        squares = (
            self.objective.cut(
                decode_image(row["image"]), decode_mask(row["mask"]), decode_image(row["truth"])
            )
            for row in rows
        )
        while part := list(islice(squares, together)):
            masked, masks, truths = (np.stack(arrays) for arrays in zip(*part, strict=True))
            yield self.objective.encode(masked, masks, truths)

    def _checkpoint(self) -> Path:
        """Writes the adapter as it will be published, and what is needed to go on, to a new folder."""
        folder = new_checkpoint_folder(self.loop.orders.scratch)
        save_lora(self.pipeline.unet, folder / ADAPTER_FOLDER, spec=self.loop.lora, metadata={})
        (folder / LAST_FOLDER).mkdir()
        save_tensors(folder / LAST_FOLDER, {k: v for k, v in self.unet.named_parameters() if v.requires_grad})
        save_state(folder, state=asdict(self.progress), optimizer=self.optimizer)
        return folder

    def _resume(self) -> TuningProgress:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return TuningProgress()
        with checkpoint.as_directory() as path:
            unknown = self.unet.load_state_dict(load_tensors(Path(path) / LAST_FOLDER), strict=False)
            state = load_state(Path(path), optimizer=self.optimizer, device=self.device)
        if unknown.unexpected_keys:
            raise RuntimeError(f"checkpoint of another adapter: {unknown.unexpected_keys[:3]}")
        return restored(TuningProgress, state)

    def _say(self, line: str) -> None:
        if self.place.rank == 0:
            self.loop.orders.say(line)


def _digest(unet: nn.Module) -> str:
    """SHA-256 over a UNet's weights and buffers without an adapter's, in the order of their names."""
    digest = hashlib.sha256()
    tensors = {k.replace(".base_layer", ""): v for k, v in unet.state_dict().items() if ".lora_" not in k}
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
