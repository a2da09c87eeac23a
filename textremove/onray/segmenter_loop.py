"""What every worker does when a segmenter is trained (paper section 4.2.3), from first batch to early stop.

Legend of axes: B batch, C channels, H height, W width, T thresholds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from torch import Tensor, nn

from textremove.checkpoint import load_tensors, save_tensors
from textremove.errors import ConfigError
from textremove.onray.squares import COLUMNS, to_square
from textremove.onray.training_job import WorkerOrders
from textremove.onray.workers import (
    average_buffers,
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
from textremove.pipe.absent import AbsentExamples
from textremove.pipe.prepared import prepared_rows
from textremove.places import flip_place
from textremove.segment.calibration import STRATEGIES, THRESHOLDS, Calibration, choose, threshold_scores
from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.predictors import segmentation_from_probability
from textremove.segment.preprocess import normalise
from textremove.segment.training import SegmenterTrainConfig, build_optimizer, segmentation_loss

BEST_FOLDER, LAST_FOLDER = "best", "last"
_SHUFFLE_BYTES = 256 * 2**20  # decoded pictures that a worker holds to draw batches from


@dataclass(frozen=True, kw_only=True)
class SegmenterLoop:
    """What a worker is told.

    Attributes:
        orders: What every training worker is told.
        model: Ray reference to the ConditionedUNet to begin with.
        training: How to train.
    """

    orders: WorkerOrders
    model: ray.ObjectRef
    training: SegmenterTrainConfig


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands after an epoch; saved with every checkpoint.

    Attributes:
        epoch: Epochs done.
        best_loss: Lowest validation loss so far.
        best_epoch: The epoch it was reached in.
        calibration: Threshold and strategy at that epoch.
        scheduler: State of the learning-rate schedule.
        history: Metrics of every epoch.
    """

    epoch: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    calibration: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    history: tuple[dict[str, float], ...] = ()

    def is_over(self, training: SegmenterTrainConfig) -> bool:
        return self.epoch >= training.epochs or self.stopped_early(training)

    def stopped_early(self, training: SegmenterTrainConfig) -> bool:
        return self.epoch - self.best_epoch >= training.early_stopping_patience


def train_segmenter_worker(config: dict[str, Any]) -> None:
    """The training loop; Ray Train runs it on every worker."""
    _Worker(config["loop"]).run()


class _Worker:
    def __init__(self, loop: SegmenterLoop) -> None:
        self.loop, self.training = loop, loop.training
        self.place, self.device = my_place(), my_device(gpu=loop.orders.gpu)
        torch.manual_seed(self.training.seed)
        self.model: ConditionedUNet = ray.get(loop.model).to(self.device)
        self.optimizer = build_optimizer(self.model, self.training)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=self.training.plateau_factor, patience=self.training.plateau_patience
        )
        self.best_tensors: dict[str, Tensor] = {}
        self.progress = self._resume()
        self.wrapped: nn.Module = self.model
        if self.place.size > 1:
            self.wrapped = ray.train.torch.prepare_model(self.model, move_to_device=False)
        self.tracker = my_tracker(loop.orders, self.place)

    def run(self) -> None:
        if self.progress.epoch:
            self._say(f"going on after epoch {self.progress.epoch}, from the last checkpoint")
            # Perhaps the worker was lost between saving and telling.
            self.tracker.log_metrics(self.progress.history[-1], step=self.progress.epoch)
        while not self.progress.is_over(self.training):
            self._epoch(self.progress.epoch + 1)
        if self.progress.stopped_early(self.training):
            self._say(f"stopped early: no better epoch since epoch {self.progress.best_epoch}")

    def _epoch(self, epoch: int) -> None:
        started = time.monotonic()
        train_loss, num_examples = self._train(epoch)
        train_seconds = time.monotonic() - started
        average_buffers(self.model)
        val_loss, calibration = self._validate()
        val_loss, absent_scores = self._with_absent(val_loss, calibration.threshold)
        if not math.isfinite(val_loss):
            raise ConfigError("the loss is not finite any more; take a lower --learning-rate")
        self.scheduler.step(val_loss)
        metrics = {
            "train_loss": train_loss,
            "val_loss": val_loss,
            **{f"val_{name}": value for name, value in calibration.scores.items()},
            **absent_scores,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "examples_per_second": num_examples / train_seconds,
            "epoch_seconds": time.monotonic() - started,
        }
        is_best = val_loss < self.progress.best_loss
        self.progress = replace(
            self.progress,
            epoch=epoch,
            scheduler=self.scheduler.state_dict(),
            history=(*self.progress.history, metrics),
        )
        if is_best:
            self.progress = replace(
                self.progress, best_loss=val_loss, best_epoch=epoch, calibration=asdict(calibration)
            )
        folder = self._checkpoint(is_best=is_best) if self.place.rank == 0 else None
        report_checkpoint({"epoch": epoch, "val_loss": val_loss}, folder, name=f"epoch-{epoch:04d}")
        self.tracker.log_metrics(metrics, step=epoch)
        self._say(
            f"epoch {epoch} of {self.training.epochs}: train loss {train_loss:.4f}, "
            f"validation loss {val_loss:.4f}{' (best)' if is_best else ''}, Dice raw "
            f"{calibration.scores['raw_dice']:.3f}, box {calibration.scores['box_dice']:.3f}, "
            f"{''.join(f'absent ones found {rate:.0%}, ' for rate in absent_scores.values())}"
            f"{metrics['epoch_seconds']:.0f} s"
        )

    def _train(self, epoch: int) -> tuple[float, int]:
        """One pass over this worker's share; gives (mean loss, examples) over all workers."""
        training, side = self.training, self.model.config.image_size
        batch_size = training.batch_size // self.place.size
        rng = np.random.default_rng([training.seed, epoch, self.place.rank])
        batches = ray.train.get_dataset_shard("train").iter_batches(
            batch_size=batch_size,
            local_shuffle_buffer_size=max(batch_size, min(4096, _SHUFFLE_BYTES // (4 * side * side))),
            local_shuffle_seed=training.seed + epoch,
        )
        losses: list[Tensor] = []
        num_examples = 0
        self.wrapped.train()
        for batch in batches:
            pictures, masks, prompts = _mirror_half(batch, rng) if training.flip else _as_is(batch)
            loss_B = self._loss(self.wrapped, pictures, masks, prompts)[0]
            self.optimizer.zero_grad(set_to_none=True)
            loss_B.mean().backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), training.max_grad_norm)
            self.optimizer.step()
            losses.append(loss_B.detach().mean())
            num_examples += len(prompts)
        total = sum_over_workers(np.array([num_examples]), self.device)[0]
        return mean_loss(losses, self.device), int(total)

    @torch.no_grad()
    def _validate(self) -> tuple[float, Calibration]:
        """Loss and scores over every validation row exactly once, summed over workers and divided once."""
        self.model.eval()
        sums = np.zeros(2 + len(THRESHOLDS) * len(STRATEGIES) * 2)
        for rows in self._validation_batches():
            loss_sum, probability_BHW = self._predict(rows)
            scores = threshold_scores(probability_BHW, np.stack([row["mask"] for row in rows]))
            sums += np.concatenate([[loss_sum, len(rows)], scores.sum(axis=0).ravel()])
        loss_sum, count, *score_sums = sum_over_workers(sums, self.device)
        means = np.array(score_sums).reshape(len(THRESHOLDS), len(STRATEGIES), 2) / count
        return float(loss_sum / count), choose(means)

    @torch.no_grad()
    def _with_absent(self, val_loss: float, threshold: float) -> tuple[float, dict[str, float]]:
        """Mixes the loss on absent objects into the validation loss, by the share that training has of them.

        Returns:
            (loss, scores): the loss, and under "val_absent_found" how often an absent object was found.
        """
        training, sums = self.training, np.zeros(3)
        if not training.absent_share:
            return val_loss, {}
        absent = AbsentExamples.of(self.loop.orders.data, share=1, seed=training.seed)
        for batch in self._validation_batches(absent):
            rows = [row for row in batch if not row["mask"].any()]  # some have no place words
            if not rows:
                continue
            loss_sum, probability_BHW = self._predict(rows)
            answers = [
                segmentation_from_probability(probability_HW, threshold=threshold, strategy="raw")
                for probability_HW in probability_BHW
            ]
            sums += (loss_sum, sum(answer.found for answer in answers), len(rows))
        loss_sum, found_sum, count = sum_over_workers(sums, self.device)
        if not count:
            return val_loss, {}
        share = training.absent_share
        mixed = (1 - share) * val_loss + share * float(loss_sum / count)
        return mixed, {"val_absent_found": float(found_sum / count)}

    def _predict(self, rows: list[dict[str, Any]]) -> tuple[float, np.ndarray]:
        """Sum of the losses on some squares, and probabilities (B, H, W), none on the border."""
        pictures, masks, prompts = _as_is(
            {name: np.stack([row[name] for row in rows]) for name in ("image", "mask", "prompt")}
        )
        # The unwrapped model: workers may have different numbers of batches here.
        loss_B, logits_B1HW = self._loss(self.model, pictures, masks, prompts)
        probability_BHW = torch.sigmoid(logits_B1HW)[:, 0].cpu().numpy()
        return loss_B.double().sum().item(), probability_BHW * np.stack([row["valid"] for row in rows])

    def _validation_batches(self, absent: AbsentExamples | None = None) -> Iterator[list[dict[str, Any]]]:
        """This worker's share, every size-th row: an even split by Ray Data would drop the remainder."""
        columns = COLUMNS if absent is None else [*COLUMNS, *absent.columns]
        rows = prepared_rows(self.loop.orders.data, split="val", columns=columns)
        mine = islice(rows, self.place.rank, None, self.place.size)
        shown = (row if absent is None else absent.apply(row) for row in mine)
        squares = (to_square(row, side=self.model.config.image_size) for row in shown)
        while batch := list(islice(squares, max(1, self.training.batch_size // self.place.size))):
            yield batch

    def _loss(
        self, model: nn.Module, pictures: np.ndarray, masks: np.ndarray, prompts: list[str]
    ) -> tuple[Tensor, Tensor]:
        """Loss per example, float32 (B,), and logits, float32 (B, 1, H, W)."""
        mask_B1HW = (torch.from_numpy(masks)[:, None].float() / 255).to(self.device)
        input_ids_BL, attention_mask_BL = (ids.to(self.device) for ids in self.model.tokenize(prompts))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.loop.orders.bfloat16):
            logits_B1HW = model(normalise(pictures).to(self.device), input_ids_BL, attention_mask_BL)
        logits_B1HW = logits_B1HW.float()
        return segmentation_loss(logits_B1HW, mask_B1HW, self.training), logits_B1HW

    def _checkpoint(self, *, is_best: bool) -> Path:
        """Writes all that is needed to go on, and the best model so far, to a new folder."""
        if is_best:
            self.best_tensors = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        folder = new_checkpoint_folder(self.loop.orders.scratch)
        for name, tensors in ((BEST_FOLDER, self.best_tensors), (LAST_FOLDER, self.model.state_dict())):
            (folder / name).mkdir()
            save_tensors(folder / name, tensors)
        save_state(folder, state=asdict(self.progress), optimizer=self.optimizer)
        return folder

    def _resume(self) -> Progress:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return Progress()
        with checkpoint.as_directory() as path:
            folder = Path(path)
            self.model.load_state_dict(load_tensors(folder / LAST_FOLDER))
            self.best_tensors = load_tensors(folder / BEST_FOLDER)
            state = load_state(folder, optimizer=self.optimizer, device=self.device)
        progress = restored(Progress, state)
        self.scheduler.load_state_dict(progress.scheduler or {})
        return progress

    def _say(self, line: str) -> None:
        if self.place.rank == 0:
            self.loop.orders.say(line)


def _as_is(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    return np.array(batch["image"]), np.array(batch["mask"]), [str(prompt) for prompt in batch["prompt"]]


def _mirror_half(
    batch: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Mirrors half of the examples, drawn at random, and left and right in their prompts with them."""
    pictures, masks, prompts = _as_is(batch)
    for k in np.flatnonzero(rng.random(len(prompts)) < 0.5):
        pictures[k], masks[k] = pictures[k, :, ::-1].copy(), masks[k, :, ::-1].copy()
        prompts[k] = flip_place(prompts[k])
    return pictures, masks, prompts
