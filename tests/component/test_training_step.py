"""A step is the same in one piece, in parts, and on two workers; batch norm over two is that over one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from textremove.onray.batch_norm import synchronise_batch_norm
from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.tiny import build_tiny_segmenter
from textremove.segment.training import SegmenterTrainConfig, TrainingStep, build_optimizer

PROMPTS = ["ball at the left", "box at the right", "ball at the top", "box at the center", "ball at the left"]
PROMPTS += ["box at the bottom"]


@pytest.fixture(scope="module")
def model() -> ConditionedUNet:
    return build_tiny_segmenter({"at", "the", "ball", "box", "left", "right"}, seed=0)


def batch(count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    masks = (rng.random((count, 64, 64)) < 0.3).astype(np.uint8) * 255
    return rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8), masks, PROMPTS[:count]


def without_batch_statistics(model: ConditionedUNet) -> ConditionedUNet:
    """Batch norm as in evaluation: the only thing that a part of a batch may do otherwise than the whole."""
    return (
        model.train()
        .requires_grad_(True)
        .apply(lambda module: module.eval() if isinstance(module, nn.BatchNorm2d) else module)
    )


def stepped(model: ConditionedUNet, count: int, **settings: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one step."""
    model = without_batch_statistics(copy.deepcopy(model))
    config = SegmenterTrainConfig(max_grad_norm=1e9, **settings)
    step = TrainingStep(model, config, build_optimizer(model, config), bfloat16=False)
    loss = step(*batch(count)).item()
    return loss, {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4, 6, 7])  # 4: parts of 4 and 2
def test_parts_of_a_batch_make_the_step_of_the_whole(model: ConditionedUNet, micro_batch_size: int) -> None:
    loss, gradients = stepped(model, 6)
    loss_in_parts, in_parts = stepped(model, 6, micro_batch_size=micro_batch_size)
    assert loss_in_parts == pytest.approx(loss, rel=1e-6)
    assert in_parts.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(in_parts[name], gradient, rtol=1e-3, atol=1e-7, msg=name)


def test_no_part_is_larger_than_asked(model: ConditionedUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = ConditionedUNet.forward

    def counting(self: ConditionedUNet, image_BCHW: Tensor, *rest: Tensor) -> Tensor:
        seen.append(len(image_BCHW))
        return forward(self, image_BCHW, *rest)

    monkeypatch.setattr(ConditionedUNet, "forward", counting)
    stepped(model, 5, micro_batch_size=2)
    assert seen == [2, 2, 1]


def on_two_workers(rank: int, model: ConditionedUNet, folder: Path) -> None:
    """Takes one step in one piece and one in two parts as worker `rank`; leaves what came of it in a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    exchanges: list[int] = []

    def counted(state, bucket):  # type: ignore[no-untyped-def]  # torch refuses annotations as strings
        exchanges.append(bucket.index())
        gradient = bucket.buffer() / 2
        return dist.all_reduce(gradient, async_op=True).get_future().then(lambda done: done.value()[0])

    pictures, masks, prompts = batch(4)
    mine = slice(2 * rank, 2 * rank + 2)
    outcome: dict[str, Any] = {}
    for micro_batch_size in (0, 1):
        part = copy.deepcopy(model).train()
        synchronise_batch_norm(part)
        wrapped = DistributedDataParallel(part)
        wrapped.register_comm_hook(None, counted)
        config = SegmenterTrainConfig(micro_batch_size=micro_batch_size, max_grad_norm=1e9)
        step = TrainingStep(part, config, build_optimizer(part, config), bfloat16=False, wrapped=wrapped)
        loss = step(pictures[mine], masks[mine], prompts[mine])
        dist.all_reduce(loss)
        if micro_batch_size == 0:
            outcome["loss"], outcome["state"] = loss.item() / 2, part.state_dict()
            outcome["gradients"] = {
                name: value.grad for name, value in part.named_parameters() if value.grad is not None
            }
        outcome[f"exchanges {micro_batch_size}"] = list(exchanges)
        exchanges.clear()
        del step, wrapped
    if rank == 0:
        torch.save(outcome, folder / "outcome.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_take_the_step_of_one_and_exchange_gradients_once(
    model: ConditionedUNet, tmp_path: Path
) -> None:
    alone = copy.deepcopy(model).train()
    config = SegmenterTrainConfig(max_grad_norm=1e9)
    step = TrainingStep(alone, config, build_optimizer(alone, config), bfloat16=False)
    expected = step(*batch(4)).item()

    mp.spawn(on_two_workers, (model, tmp_path), nprocs=2)
    outcome = torch.load(tmp_path / "outcome.pt", weights_only=True)
    assert outcome["loss"] == pytest.approx(expected, rel=1e-5)
    gradients = {name: value.grad for name, value in alone.named_parameters() if value.grad is not None}
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            outcome["gradients"][name], gradient, rtol=1e-2, atol=1e-4 * largest, msg=name
        )
    statistics = [name for name in alone.state_dict() if "running" in name or "num_batches" in name]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(outcome["state"][name], alone.state_dict()[name], rtol=1e-4, atol=1e-5)
    buckets = outcome["exchanges 0"]
    assert buckets
    assert outcome["exchanges 1"] == buckets  # as many as for a step in one piece
