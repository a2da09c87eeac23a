"""What training loops need inside a Ray Train worker: exact sums over workers, devices, saved state.

Everything works in process as well (no process group), which is how unit tests and one-worker runs go.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from textremove.onray.batch_norm import synchronise_batch_norm
from textremove.onray.tracking import join_run
from textremove.onray.training_job import WorkerOrders
from textremove.segment.training import SegmenterTrainConfig
from textremove.tracking import Tracker

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful

Progress = TypeVar("Progress")

STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.pt"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which of the workers this is.

    Attributes:
        rank: 0 for the one that logs and saves.
        size: How many there are.
    """

    rank: int
    size: int


def my_place() -> Place:
    """This worker's place among the workers."""
    context = ray.train.get_context()
    return Place(rank=context.get_world_rank(), size=context.get_world_size())


def my_device(*, gpu: bool) -> torch.device:
    """The GPU that Ray gave this worker, or the CPU."""
    return ray.train.torch.get_device() if gpu else torch.device("cpu")


def my_tracker(orders: WorkerOrders, place: Place) -> Tracker:
    """The MLflow run on rank 0; on the others, one that remembers nothing."""
    return join_run(orders.tracking_uri, orders.run_id if place.rank == 0 else "")


def sum_over_workers(values: np.ndarray, device: torch.device) -> np.ndarray:
    """Adds up an array over all workers, in float64, so that sums and counts stay exact.

    Args:
        values: One worker's sums; of the same shape on all.
        device: Where the process group can reach it.
    """
    if not dist.is_initialized():
        return np.asarray(values, np.float64)
    total = torch.from_numpy(np.array(values, np.float64)).to(device)
    dist.all_reduce(total)
    return total.cpu().numpy()


def average_buffers(model: nn.Module) -> None:
    """Averages floating buffers (batch norm's running statistics) over workers, so that all are one model.

    They are the same already where batch norm is synchronised.
    """
    if not dist.is_initialized():
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()


def in_parallel(model: nn.Module, config: SegmenterTrainConfig) -> DistributedDataParallel:
    """Wraps a model so that gradients are averaged over workers, and batch norm is synchronised if asked."""
    if config.sync_batch_norm:
        synchronise_batch_norm(model)
    wrapped: DistributedDataParallel = ray.train.torch.prepare_model(model, move_to_device=False)
    return wrapped


def exchange_gradients(model: nn.Module) -> DistributedDataParallel:
    """Wraps a model so that gradients are averaged over workers, and nothing else is ever exchanged.

    DistributedDataParallel would broadcast all weights once, a frozen base's as well. Every worker loads or
    draws its own instead; `same_on_all` says whether they are the same.
    """
    devices = [parameter.device for parameter in model.parameters()][:1]
    return DistributedDataParallel(
        model, device_ids=devices if devices[0].type == "cuda" else None, init_sync=False
    )


def same_on_all(digest: str, device: torch.device) -> bool:
    """Whether all workers have the same hex digest."""
    mine = np.array([int(digest[k : k + 8], 16) for k in range(0, len(digest), 8)], np.float64)
    return bool((sum_over_workers(mine, device) == mine * my_place().size).all())


def save_state(folder: Path, *, state: Mapping[str, Any], optimizer: Stateful) -> None:
    """Writes what training needs to go on besides the model: JSON, and the optimizer's tensors."""
    (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
    torch.save(optimizer.state_dict(), folder / OPTIMIZER_FILE)


def load_state(folder: Path, *, optimizer: Stateful, device: torch.device) -> dict[str, Any]:
    """Reads what `save_state` wrote. The optimizer's file is read as tensors only: it can run no code."""
    optimizer.load_state_dict(torch.load(folder / OPTIMIZER_FILE, map_location=device, weights_only=True))
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    return state


def restored(kind: type[Progress], state: Mapping[str, Any]) -> Progress:
    """Reads a progress dataclass, which has a history of metrics, back from a checkpoint's state."""
    values = {field.name: state[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**values, "history": tuple(values["history"])})


def new_checkpoint_folder(scratch: Path) -> Path:
    """An empty folder inside `scratch`; `report_checkpoint` takes it away again."""
    return Path(tempfile.mkdtemp(prefix="checkpoint-", dir=scratch))


def report_checkpoint(metrics: Mapping[str, float], folder: Path | None, *, name: str) -> None:
    """Reports to Ray Train: rank 0 with the folder it filled, the others with None. All must call it."""
    ray.train.report(
        dict(metrics),
        checkpoint=None if folder is None else ray.train.Checkpoint.from_directory(str(folder)),
        checkpoint_dir_name=name,
        delete_local_checkpoint_after_upload=folder is not None,
    )


def mean_loss(losses: list[Tensor], device: torch.device) -> float:
    """Mean of per-step losses over all workers."""
    local = np.array([float(torch.stack(losses).sum()) if losses else 0.0, len(losses)])
    total, count = sum_over_workers(local, device)
    return float(total / max(count, 1))
