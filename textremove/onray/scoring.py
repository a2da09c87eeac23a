"""Sends examples through the actors that score and show them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data.expressions import col

from textremove.errors import ConfigError
from textremove.groups import COMPOUND, SIMPLE
from textremove.images import decode_image, decode_mask
from textremove.inpaint.frechet import LocalFid
from textremove.onray.cluster import PATIENCE_SECONDS
from textremove.onray.datasets import in_small_blocks, read_prepared
from textremove.onray.evaluation import Rows
from textremove.onray.progress import Say
from textremove.onray.scorer import Scorer, ScorerConfig, Shower
from textremove.onray.trainer import cpus_per_worker
from textremove.pipe.shapes import SHAPES
from textremove.report.cases import Case
from textremove.report.filling_cases import FillingCase, cases_to_show
from textremove.report.segmenting import BOX_DICE
from textremove.scores import Row, extremes

_CASES_OF_A_KIND = 4
_SAY_EVERY_SECONDS = 15.0
_ROWS_PER_BLOCK = 4
_COMPOUND = {word: shape.compound for name, shape in SHAPES.items() for word in (name, shape.plural)}


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Which examples are scored, by how many processes.

    Attributes:
        data: The prepared folder.
        split: Of it.
        config: What they are scored for.
        num_actors: Processes.
    """

    data: str
    split: str
    config: ScorerConfig
    num_actors: int


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the scorers say, in the order of the example ids.

    Attributes:
        segment: A row for every example and segmenter.
        inpaint: A row for every example and way of filling.
        local_fid: By way of filling; empty where its network is not there.
    """

    segment: Rows
    inpaint: Rows
    local_fid: dict[str, float]


def score_examples(scoring: Scoring, chosen: frozenset[str], say: Say) -> Scores:
    """Runs the scorers.

    Raises:
        ConfigError: The models cannot be loaded where they are to run.
    """
    segment_rows: Rows = []
    inpaint_rows: Rows = []
    local_fid = LocalFid(list(scoring.config.fillings))
    said = time.monotonic()
    scored = _mapped(scoring, chosen, Scorer, (scoring.config,), num_actors=scoring.num_actors)
    for number, row in enumerate(scored.iter_rows(), start=1):
        if row["failure"]:
            raise ConfigError(row["failure"])
        segment_rows += json.loads(row["segment"])
        inpaint_rows += json.loads(row["inpaint"])
        if row["looks"]:
            local_fid.add(np.frombuffer(row["looks"], np.float32).reshape(1 + len(local_fid.names), -1))
        if time.monotonic() - said > _SAY_EVERY_SECONDS or number == len(chosen):
            said = time.monotonic()
            say(f"scored {number:,} of {len(chosen):,} examples")
    for rows in (segment_rows, inpaint_rows):
        rows.sort(key=lambda row: row["example_id"])
    _tell_shapes_apart(inpaint_rows)
    return Scores(segment=segment_rows, inpaint=inpaint_rows, local_fid=local_fid.distances())


def show_examples(
    scoring: Scoring, segment_rows: Rows, inpaint_rows: Rows
) -> tuple[list[Case], list[FillingCase]]:
    """Makes the pictures of the best, median, worst and failed examples again, to be looked at."""
    found: Mapping[str, list[Row]] = {}
    if segment_rows:
        first = [row for row in segment_rows if row["segmenter"] == segment_rows[0]["segmenter"]]
        found = extremes(first, score=BOX_DICE.name, count=_CASES_OF_A_KIND)
    filled = cases_to_show(inpaint_rows)
    filled_ids = frozenset(row["example_id"] for rows in filled.values() for row in rows)
    ids = filled_ids | {row["example_id"] for rows in found.values() for row in rows}
    shown = {
        row["example_id"]: row
        for row in _mapped(scoring, ids, Shower, (scoring.config, filled_ids), num_actors=1).iter_rows()
    }
    return (
        [_case(kind, row, shown[row["example_id"]]) for kind, rows in found.items() for row in rows],
        [
            _filling_case(kind, row, shown[row["example_id"]], list(scoring.config.fillings), inpaint_rows)
            for kind, rows in filled.items()
            for row in rows
        ],
    )


def _case(kind: str, row: Row, shown: Mapping[str, Any]) -> Case:
    return Case(
        kind=kind,
        prompt=row["prompt"],
        example_id=row["example_id"],
        image=decode_image(shown["image"]),
        truth=decode_mask(shown["mask"]),
        found={name: decode_mask(png) for name, png in zip(shown["names"], shown["found"], strict=True)},
    )


def _filling_case(
    kind: str, row: Row, shown: Mapping[str, Any], names: list[str], inpaint_rows: Rows
) -> FillingCase:
    return FillingCase(
        kind=kind,
        prompt=row["prompt"],
        example_id=row["example_id"],
        image=decode_image(shown["image"]),
        mask=decode_mask(shown["mask"]),
        truth=decode_image(shown["truth"]),
        filled={name: decode_image(png) for name, png in zip(names, shown["filled"], strict=True)},
        scores={r["inpainter"]: r for r in inpaint_rows if r["example_id"] == row["example_id"]},
    )


def _tell_shapes_apart(rows: Rows) -> None:
    """Adds "shape_group" where every class is one of procedural scenes; photos show no such kinds."""
    scenes = all(row["object_class"] in _COMPOUND for row in rows)
    for row in rows:
        row["shape_group"] = (COMPOUND if _COMPOUND[row["object_class"]] else SIMPLE) if scenes else ""


def _mapped(
    scoring: Scoring,
    ids: frozenset[str],
    mapper: type[Scorer] | type[Shower],
    arguments: tuple[Any, ...],
    *,
    num_actors: int,
) -> ray.data.Dataset:
    """Some examples of the split through actors that have the models."""
    examples = read_prepared(scoring.data, split=scoring.split, num_blocks=max(4, 2 * num_actors))
    chosen = examples.filter(expr=col("example_id").is_in(sorted(ids)))
    mapped = in_small_blocks(chosen, _ROWS_PER_BLOCK).map(
        mapper,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=cpus_per_worker(num_actors, ray.cluster_resources().get("CPU", 0.0)),
        num_gpus=1 if scoring.config.gpu else 0,
    )
    mapped.context.execution_no_progress_timeout_s = PATIENCE_SECONDS
    return mapped
