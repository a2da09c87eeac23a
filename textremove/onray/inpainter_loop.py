"""What every worker does when an adapter is fine-tuned (paper section 4.3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch

from textremove.errors import ConfigError
from textremove.inpaint.adapter_training import AdapterTraining
from textremove.inpaint.diffusion import load_base
from textremove.inpaint.holes import HoleConfig
from textremove.inpaint.latents import LatentBatch, LatentEncoder
from textremove.inpaint.lora import LoraSpec, save_lora
from textremove.inpaint.objective import InpaintTrainConfig, example_seed
from textremove.onray.inpainter_feeding import Batches, CachedLatents, EncodedEachTime
from textremove.onray.inpainter_squares import PICTURE_COLUMNS, training_square
from textremove.onray.training_job import WorkerOrders
from textremove.onray.workers import (
    exchange_gradients,
    load_state,
    mean_loss,
    my_device,
    my_place,
    my_tracker,
    new_checkpoint_folder,
    report_checkpoint,
    restored,
    same_on_all,
    save_state,
    sum_over_workers,
)
from textremove.pipe.prepared import prepared_rows

ADAPTER_FOLDER = "adapter"
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
        latents: Where the training batches come from.
        num_validation: Validation examples at most; 0 for all.
    """

    orders: WorkerOrders
    base: str
    lora: LoraSpec
    init: str
    training: InpaintTrainConfig
    latents: CachedLatents | EncodedEachTime
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
        self.loop, self.config = loop, loop.training
        self.place, self.device = my_place(), my_device(gpu=loop.orders.gpu)
        pipeline = load_base(loop.base, device=str(self.device))
        # Of the pipeline only the UNet and the VAE are kept; the text encoder has said what it has to say.
        resolution = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        self.encoder = LatentEncoder(pipeline.vae, resolution=resolution)
        self.training = AdapterTraining(pipeline, loop.lora, self.config, bfloat16=loop.orders.bfloat16)
        self.digest = self.training.base_digest()
        self.progress = self._resume()
        for what, digest in (("base", self.digest), ("adapter", self.training.adapter_digest())):
            if not same_on_all(digest, self.device):
                raise ConfigError(f"workers have different weights of the {what}; see that all read the same")
        self.wrapped = exchange_gradients(self.training.unet) if self.place.size > 1 else None
        self.tracker = my_tracker(loop.orders, self.place)

    def run(self) -> None:
        if self.progress.epoch >= self.config.epochs:
            return
        validation = list(self._encode_validation())
        if self.progress.epoch == 0:
            self._begin(validation)
        else:
            self._say(f"going on after epoch {self.progress.epoch}, from the last checkpoint")
            self.tracker.log_history(self.progress.history)
        epochs = range(self.progress.epoch + 1, self.config.epochs + 1)
        with closing(self.loop.latents.batches(self.place, epochs=epochs, encoder=self.encoder)) as batches:
            for epoch in epochs:
                self._epoch(epoch, batches, validation)

    def _begin(self, validation: list[tuple[int, LatentBatch]]) -> None:
        trainable = sum(parameter.numel() for parameter in self.training.parameters)
        self.progress = replace(
            self.progress,
            base_loss=self._validate(validation),
            base_digest=self.digest,
            num_trainable=trainable,
            num_frozen=sum(parameter.numel() for parameter in self.training.unet.parameters()) - trainable,
        )
        self.tracker.log_metrics({"val_loss": self.progress.base_loss}, step=0)
        self._say(f"validation loss of the base without an adapter: {self.progress.base_loss:.4f}")
        if self.loop.init:
            self.training.start_from(self.loop.init)

    def _epoch(self, epoch: int, batches: Batches, validation: list[tuple[int, LatentBatch]]) -> None:
        started = time.monotonic()
        train_loss = self._train(epoch, batches)
        train_seconds = time.monotonic() - started
        order = self.loop.latents.order
        with self.training.averaged():  # what is validated is what is saved
            val_loss = self._validate(validation)
            if not np.isfinite(val_loss):
                raise ConfigError("the loss is not finite any more; take a lower --learning-rate")
            if self.training.base_digest() != self.digest:
                raise RuntimeError("weights of the frozen base changed in training")
            metrics = {
                "train_loss": train_loss,
                "val_loss": val_loss,
                "steps_per_second": order.num_steps / train_seconds,
                "examples_per_second": order.num_steps * order.batch_size / train_seconds,
                "epoch_seconds": time.monotonic() - started,
            }
            self.progress = replace(self.progress, epoch=epoch, history=(*self.progress.history, metrics))
            folder = new_checkpoint_folder(self.loop.orders.scratch) if self.place.rank == 0 else None
            if folder is not None:
                save_lora(self.training.unet, folder / ADAPTER_FOLDER, spec=self.loop.lora, metadata={})
        if folder is not None:
            save_state(folder, state=asdict(self.progress), optimizer=self.training)
        report_checkpoint({"epoch": epoch, "val_loss": val_loss}, folder, name=f"epoch-{epoch:04d}")
        self.tracker.log_history(self.progress.history)
        self._say(
            f"epoch {epoch} of {self.config.epochs}: train loss {train_loss:.4f}, "
            f"validation loss {val_loss:.4f}, {metrics['epoch_seconds']:.0f} s; base unchanged"
        )

    def _train(self, epoch: int, batches: Batches) -> float:
        """One pass over the data; gives the mean loss over all workers."""
        order = self.loop.latents.order
        losses: list[torch.Tensor] = []
        said = time.monotonic()
        for step, (numbers, batch) in enumerate(islice(batches, order.num_steps), start=1):
            # Neither of noise nor of timesteps does it matter on which worker an example is.
            seeds = [example_seed(self.config.seed, epoch, int(number)) for number in numbers]
            losses.append(self.training.step(batch.to(self.device), seeds, wrapped=self.wrapped).mean())
            if time.monotonic() - said > _SAY_EVERY_SECONDS:
                said = time.monotonic()
                done = min(step * order.batch_size, order.num_rows)
                self._say(f"epoch {epoch}: {done:,} of {order.num_rows:,} examples")
        return mean_loss(losses, self.device)

    def _validate(self, validation: list[tuple[int, LatentBatch]]) -> float:
        """Mean loss over all validation examples, each with noise of its own that is the same every time."""
        sums = np.zeros(2)
        for number, example in validation:
            loss = self.training.validation_loss(example, [number])
            sums += [loss.double().item(), 1]
        total, count = sum_over_workers(sums, self.device)
        return float(total / count)

    def _encode_validation(self) -> Iterator[tuple[int, LatentBatch]]:
        """Yields (row number, latents) of this worker's share: every size-th row, so that none is dropped."""
        rows = prepared_rows(self.loop.orders.data, split="val", columns=list(PICTURE_COLUMNS))
        limited = islice(enumerate(rows), self.loop.num_validation or None)
        for number, row in islice(limited, self.place.rank, None, self.place.size):
            square = training_square(
                row | {"number": number, "epoch": 0},
                resolution=self.encoder.resolution,
                holes=HoleConfig(),
                seed=0,
            )
            yield number, self.encoder.encode([square])

    def _resume(self) -> TuningProgress:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return TuningProgress()
        with checkpoint.as_directory() as path:
            state = load_state(Path(path), optimizer=self.training, device=self.device)
        return restored(TuningProgress, state)

    def _say(self, line: str) -> None:
        if self.place.rank == 0:
            self.loop.orders.say(line)
