"""Local FID: how far the looks of filled crops, all together, are from those of the true crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

LOCAL_FID = "local_fid"

_AT_ONCE = 64  # examples whose looks are added up together: the sums are wide


class _AsTheyAre(nn.Identity):
    """Stands in for the network, which has looked already, next to the pictures."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


class LocalFid:
    """Fréchet distances between fillings and truths (Heusel et al. 2017, arXiv 1706.08500), as sums.

    Memory does not grow with the examples. With fewer examples than the looks are wide the distance is
    too large, the more so the fewer: compare what comes of the same examples.

    Args:
        names: Of the ways of filling.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._distances: dict[str, FrechetInceptionDistance] = {}
        self._waiting: list[np.ndarray] = []
        self.num_examples = 0

    def add(self, looks: np.ndarray) -> None:
        """Adds one example.

        Args:
            looks: float (1 + ways of filling, width): of the true crop, then of each filling in order.
        """
        self.num_examples += 1
        self._waiting.append(looks)
        if len(self._waiting) == _AT_ONCE:
            self._add_up()

    def distances(self) -> dict[str, float]:
        """The distance of each way of filling from the truth, 0 or more; none of fewer than two examples."""
        if self.num_examples < 2:
            return {}
        self._add_up()
        return {name: float(distance.compute()) for name, distance in self._distances.items()}

    def _add_up(self) -> None:
        if not self._waiting:
            return
        looks_NVD = torch.from_numpy(np.stack(self._waiting)).float()
        self._waiting.clear()
        for number, name in enumerate(self.names, start=1):
            if name not in self._distances:
                self._distances[name] = FrechetInceptionDistance(feature=_AsTheyAre(looks_NVD.shape[-1]))
            self._distances[name].update(looks_NVD[:, 0], real=True)
            self._distances[name].update(looks_NVD[:, number], real=False)
