"""Batch norm over the batches of all workers, so that it does not depend on how many there are.

torch's SyncBatchNorm knows GPUs only; on CPUs a plain one stands in for it.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn


def synchronise_batch_norm(model: nn.Module) -> None:
    """Replaces every batch norm in a model, in place; parameters, buffers and their names stay the same.

    Every worker must have as many pixels in its batch as the others.
    """
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, WholeBatchNorm.like(child))


class WholeBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance in training are those of all workers' batches together."""

    @classmethod
    def like(cls, other: nn.BatchNorm2d) -> Self:
        """One with the very parameters and buffers of another."""
        new = cls(other.num_features, eps=other.eps, momentum=other.momentum)
        new._parameters, new._buffers, new.training = other._parameters, other._buffers, other.training
        return new

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_BCHW)
        var_C, mean_C = torch.var_mean(x_BCHW.float(), dim=(0, 2, 3), correction=0)
        # In double: the variance between workers is a small difference of large squares.
        var_C, mean_C = var_C.double(), mean_C.double()
        local_3C = torch.stack([var_C, mean_C, mean_C.square()])
        mean_var_C, mean_C, mean_square_C = _SumOverWorkers.apply(local_3C) / dist.get_world_size()
        var_C = mean_var_C + (mean_square_C - mean_C.square())
        self._remember(mean_C.detach(), var_C.detach(), x_BCHW.numel() // len(mean_C) * dist.get_world_size())
        scale_C = self.weight * torch.rsqrt(var_C + self.eps)
        shift_C = self.bias - mean_C * scale_C
        scale_C11, shift_C11 = (value_C.to(x_BCHW.dtype)[:, None, None] for value_C in (scale_C, shift_C))
        return x_BCHW * scale_C11 + shift_C11

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, var_C: Tensor, count: int) -> None:
        """Updates what is used in evaluation, the variance without bias, as BatchNorm2d does."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), self.momentum)
        unbiased_C = var_C * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased_C.to(self.running_var.dtype), self.momentum)


class _SumOverWorkers(torch.autograd.Function):
    """All-reduce through which gradients flow: what a sum did to every worker's loss comes back summed."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
