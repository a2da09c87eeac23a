"""The benchmark for a GPU, on a CPU with a tiny base: what it measures, and that it measures what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.full_size import Config, measure


def test_every_case_is_measured_and_the_base_stays_as_it_was(random_base: Path) -> None:
    config = Config(
        base=random_base,
        device="cpu",
        batch_sizes=(1, 2),
        checkpointing=(False,),
        num_steps=2,
        num_warmup=1,
        rounds=1,
        removal_steps=2,
    )

    result = measure(config)

    assert json.loads(json.dumps(result)) == result
    cases = result["cases"]
    assert [(case["precision"], case["batch_size"]) for case in cases] == [
        ("bfloat16", 1), ("bfloat16", 2), ("float32", 1), ("float32", 2)
    ]  # fmt: skip
    for case in cases:
        (kept,), (encoded,) = case["kept_steps_per_second"], case["encoded_steps_per_second"]
        assert case["kept_over_encoded"] == pytest.approx(kept / encoded)
        assert kept > 0
        assert encoded > 0
    assert result["base_unchanged"]
    # The same steps in both precisions: near each other, and not the same computation twice.
    assert 0 < max(result["loss_relative_difference"].values()) < 0.05
    assert all(math.isfinite(loss) for loss in result["loss_after"].values())
    assert result["loss_after"] != result["loss_before"]
    assert len(result["removal"]["seconds"]) == 2
    assert result["removal"]["same_twice"]
