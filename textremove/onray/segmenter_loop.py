"""What every worker does when a segmenter is trained (paper section 4.2.3), from first batch to early stop.

Legend of axes: B batch, C channels, H height, W width, T thresholds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from torch import Tensor

from textremove.checkpoint import load_tensors, save_tensors
from textremove.errors import ConfigError
from textremove.onray.feeding import StoredSquares, StreamedSquares
from textremove.onray.squares import COLUMNS, to_square
from textremove.onray.training_job import WorkerOrders
from textremove.onray.workers import (
    average_buffers,
    in_parallel,
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
from textremove.segment.masks import segmentation_from_probability
from textremove.segment.training import SegmenterTrainConfig, TrainingStep, build_optimizer

BEST_FOLDER, LAST_FOLDER = "best", "last"
_SAY_EVERY_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class SegmenterLoop:
    """What a worker is told.

    Attributes:
        orders: What every training worker is told.
        model: Ray reference to the ConditionedUNet to begin with.
        squares: Where the training batches come from.
        training: How to train.
    """

    orders: WorkerOrders
    model: ray.ObjectRef
    squares: StoredSquares | StreamedSquares
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
        self.step = TrainingStep(
            self.model,
            self.training,
            self.optimizer,
            bfloat16=loop.orders.bfloat16,
            wrapped=in_parallel(self.model, self.training) if self.place.size > 1 else None,
        )
        self.tracker = my_tracker(loop.orders, self.place)

    def run(self) -> None:
        epochs = range(self.progress.epoch + 1, self.training.epochs + 1)
        with closing(self.loop.squares.batches(self.place, epochs=epochs)) as self.batches:
            self._run()

    def _run(self) -> None:
        if self.progress.epoch:
            self._say(f"going on after epoch {self.progress.epoch}, from the last checkpoint")
            self.tracker.log_history(self.progress.history)
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
        self.tracker.log_history(self.progress.history)
        self._say(
            f"epoch {epoch} of {self.training.epochs}: train loss {train_loss:.4f}, "
            f"validation loss {val_loss:.4f}{' (best)' if is_best else ''}, Dice raw "
            f"{calibration.scores['raw_dice']:.3f}, box {calibration.scores['box_dice']:.3f}, "
            f"{''.join(f'absent ones found {rate:.0%}, ' for rate in absent_scores.values())}"
            f"{metrics['epoch_seconds']:.0f} s"
        )

    def _train(self, epoch: int) -> tuple[float, int]:
        """One pass over the data; gives (mean loss, examples) over all workers."""
        order, training = self.loop.squares.order, self.training
        losses: list[Tensor] = []
        said = time.monotonic()
        self.model.train()
        for step, (positions, batch) in enumerate(islice(self.batches, order.num_steps)):
            pictures, masks, prompts = _as_is(batch)
            if training.flip:  # drawn for the whole batch: which rows are mirrored is nobody's own choice
                draws = np.random.default_rng([training.seed, epoch, step]).random(order.batch_size)
                _mirror(pictures, masks, prompts, np.flatnonzero(draws[positions] < 0.5))
            losses.append(self.step(pictures, masks, prompts))
            if time.monotonic() - said > _SAY_EVERY_SECONDS:
                said = time.monotonic()
                done = (step + 1) * order.batch_size
                self._say(f"epoch {epoch}: {min(done, order.num_rows):,} of {order.num_rows:,} examples")
        return mean_loss(losses, self.device), order.num_steps * order.batch_size

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
        loss_B, logits_B1HW = self.step.losses(self.model, pictures, masks, prompts)
        probability_BHW = torch.sigmoid(logits_B1HW)[:, 0].cpu().numpy()
        return loss_B.double().sum().item(), probability_BHW * np.stack([row["valid"] for row in rows])

    def _validation_batches(self, absent: AbsentExamples | None = None) -> Iterator[list[dict[str, Any]]]:
        """This worker's share, every size-th row: an even split by Ray Data would drop the remainder."""
        columns = COLUMNS if absent is None else [*COLUMNS, *absent.columns]
        rows = prepared_rows(self.loop.orders.data, split="val", columns=columns)
        mine = islice(rows, self.place.rank, None, self.place.size)
        shown = (row if absent is None else absent.apply(row) for row in mine)
        squares = (to_square(row, side=self.model.config.image_size) for row in shown)
        together = self.training.micro_batch_size or self.training.batch_size // self.place.size
        while batch := list(islice(squares, together)):
            yield batch

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


def _mirror(pictures: np.ndarray, masks: np.ndarray, prompts: list[str], chosen: np.ndarray) -> None:
    """Mirrors the chosen examples in place, and left and right in their prompts with them."""
    for k in chosen:
        pictures[k], masks[k] = pictures[k, :, ::-1].copy(), masks[k, :, ::-1].copy()
        prompts[k] = flip_place(prompts[k])
