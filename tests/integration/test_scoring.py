"""How examples get to the actors that score them, through the real Ray Data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from textremove.inpaint.perceptual import NetworkWeights
from textremove.onray import scoring as module
from textremove.onray.scorer import ScorerConfig
from textremove.onray.scoring import Scoring
from textremove.pipe.prepared import prepared_rows

pytestmark = pytest.mark.integration


def test_scores_are_handed_on_soon(ray_session: None, prepared_scenes: Path) -> None:
    """Of chosen neighbours, all of which one actor would else be given, and keep until the last is done."""
    rows = prepared_rows(prepared_scenes, split="train", columns=["example_id"])
    chosen = frozenset([row["example_id"] for row in rows][:30])
    config = ScorerConfig(
        segmenters={}, prior_boxes={}, fillings={}, weights=NetworkWeights(), seed=0, gpu=False
    )
    scoring = Scoring(data=str(prepared_scenes), split="train", config=config, num_actors=2)

    class Echo:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return {"example_id": row["example_id"]}

    mapped = module._mapped(scoring, chosen, Echo, (), num_actors=2)  # type: ignore[arg-type]
    blocks = list(mapped.iter_batches(batch_size=None))
    assert {str(example_id) for block in blocks for example_id in block["example_id"]} == chosen
    assert max(len(block["example_id"]) for block in blocks) <= 4
