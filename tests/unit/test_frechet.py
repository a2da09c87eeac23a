from __future__ import annotations

import numpy as np
import pytest

from textremove.inpaint.frechet import LocalFid


def test_it_is_the_distance_of_two_gaussians() -> None:
    """Of N(a, diag(s)) and N(b, diag(t)) it is |a - b|^2 plus the sum of (sqrt(s) - sqrt(t))^2."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((20_000, 3))
    distances = LocalFid(["same", "moved", "wider"])
    moved, wider = noise + np.array([1, 2, 0]), noise * np.array([1, 1, 3])
    for of_example in np.stack([noise, noise, moved, wider], axis=1):
        distances.add(of_example)
    found = distances.distances()
    assert found["same"] == pytest.approx(0, abs=1e-3)
    assert found["moved"] == pytest.approx(5, rel=1e-3)
    assert found["wider"] == pytest.approx(4, rel=0.05)
    assert distances.num_examples == 20_000


def test_of_fewer_than_two_examples_there_is_none() -> None:
    distances = LocalFid(["one"])
    assert distances.distances() == {}
    distances.add(np.zeros((2, 3)))
    assert distances.distances() == {}
