"""Removing something from every photo of a folder: Ray Data feeds segmenters, then inpainters.

Segmenting and inpainting are separate stages with actor pools of their own, since the second takes many
times as long. The driver sees no picture: it takes one small row per photo, and writes the manifest.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.exceptions import ExecutionTimeoutError

from textremove.attempts import RemovalConfig
from textremove.checkpoint import MANIFEST_FILE as WEIGHTS_MANIFEST
from textremove.checkpoint import sha256_of
from textremove.errors import ConfigError
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions
from textremove.onray import stages
from textremove.onray.batch_actors import InpaintActor, SegmentActor
from textremove.onray.batch_inputs import BatchInput, BatchPlan, plan_inputs
from textremove.onray.batch_store import BatchStore
from textremove.onray.cluster import check_gpus, connect
from textremove.onray.datasets import in_small_blocks, read_prepared
from textremove.onray.models import absolute
from textremove.presets import check_models, shipped
from textremove.schema import MANIFEST_SCHEMA, SCHEMA_VERSION

_MAX_BLOCKS = 1000
_TASK_CPUS = 0.5
_SECONDS_PER_PROGRESS = 5.0


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What to remove from which photos.

    Attributes:
        inputs: A folder of photos, a prepared folder, or a .csv or .parquet with the columns path and prompt.
        out: Folder for the pictures and the manifest; a rerun does only what is not done. On a cluster, one
            that every node sees, as the inputs.
        prompt: What to remove, for photos that bring no prompt of their own.
        split: Of a prepared folder, which split; all of it by default.
        masks: Use the masks of a prepared folder instead of segmenting. The prompts still verify.
        segmenter: tiny, clipseg, sam3, grounded-sam2, zero-shot, a folder, a hub id, or DETECTOR+SAM2.
        inpainter: Preset, folder or hub id.
        adapter: LoRA folder for the inpainter.
        num_steps: Denoising steps; the inpainter's own number by default.
        diffusion: Words, guidance and redirection of a diffusion base.
        fill: How holes are cut out and pasted back.
        removal: How hard to try, and whether to look again.
        seed: Seed from which each photo's own is derived, by its name.
        batch_size: Photos that a model is given at a time.
        segment_actors: Segmenter processes at most.
        inpaint_actors: Inpainter processes at most.
        gpus_per_actor: GPUs, or a share of one, for each of these; 0 runs them on CPUs.
        stall_timeout_s: Seconds without progress until the job gives up; raise it for large models on CPUs.
        address: A running Ray cluster; by default RAY_ADDRESS, else a local Ray is started.
    """

    inputs: Path
    out: Path
    prompt: str = ""
    split: str | None = None
    masks: bool = False
    segmenter: str = "tiny"
    inpainter: str = "tiny"
    adapter: str | None = None
    num_steps: int | None = None
    diffusion: DiffusionOptions = DiffusionOptions()
    fill: FillConfig = FillConfig()
    removal: RemovalConfig = RemovalConfig()
    seed: int = 0
    batch_size: int = 8
    segment_actors: int = 1
    inpaint_actors: int = 1
    gpus_per_actor: float = 0.0
    stall_timeout_s: int = 600
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of a batch.

    Attributes:
        manifest: The parquet file with one row per input.
        num_inputs: How many there were.
        num_resumed: How many of them an earlier run had done.
        statuses: Inputs by status: ok, not_found, error.
        reasons: Inputs by named reason, those that are ok left out.
        num_unverified: Of those that are ok, in how many the object is still found where it was.
        seconds: Duration of this run, starting the models included.
    """

    manifest: Path
    num_inputs: int
    num_resumed: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    num_unverified: int
    seconds: float


def run_batch(config: BatchConfig, *, progress: Callable[[str], None] = print) -> BatchResult:
    """Removes what the prompts name from every photo that is not done yet.

    Args:
        config: What and where.
        progress: Takes a line for a person every few seconds.

    Returns:
        Counts, and where the manifest is.

    Raises:
        UserError: The batch cannot run as it is. A photo that cannot be worked on never raises.
    """
    started = time.monotonic()
    _check(config)
    plan = plan_inputs(config.inputs, out=config.out, prompt=config.prompt, split=config.split)
    if config.masks and plan.prepared is None:
        raise ConfigError(f"--masks takes the masks of a prepared folder, and {config.inputs} is none")
    if plan.num_other_files:
        progress(f"{plan.num_other_files:,} files are left alone: their names are not of photos")
    store = BatchStore(config.out, _settings(config))
    done = store.done(plan.inputs)
    todo = [entry for entry in plan.inputs if entry.input_id not in done]
    progress(f"{len(plan.inputs):,} inputs, {len(done):,} of them done before")
    try:
        if todo:
            with connect(config.address):
                pools = 1 if config.masks else 2  # each needs an actor, or nothing ever comes out
                check_gpus(
                    pools * config.gpus_per_actor, config.address, flag="--gpus-per-actor", say=progress
                )
                _record(_finished_rows(config, plan, todo), store, len(todo), progress)
    finally:
        store.flush()
        store.clean()
    manifest, rows = store.finish(plan.inputs)
    return BatchResult(
        manifest=manifest,
        num_inputs=len(plan.inputs),
        num_resumed=len(done),
        statuses=Counter(row["status"] for row in rows),
        reasons=Counter(row["reason"] for row in rows if row["reason"]),
        num_unverified=sum(row["verified"] is False for row in rows),
        seconds=time.monotonic() - started,
    )


def describe(result: BatchResult) -> str:
    """Says what became of a batch, in lines for a person."""
    new = result.num_inputs - result.num_resumed
    lines = [f"{new:,} inputs done in {result.seconds:.0f} s, {result.num_resumed:,} had been done before"]
    lines += [f"  {status:<12} {count:>8,}" for status, count in sorted(result.statuses.items())]
    lines += [f"    {reason:<18} {count:>8,}" for reason, count in sorted(result.reasons.items())]
    if result.num_unverified:
        lines.append(f"{result.num_unverified:,} of those that are ok still find the object where it was")
    return "\n".join(lines)


def _check(config: BatchConfig) -> None:
    for name in ("batch_size", "segment_actors", "inpaint_actors", "stall_timeout_s"):
        if getattr(config, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(config, name)}")
    if config.gpus_per_actor < 0:
        raise ConfigError("--gpus-per-actor takes 0 or a positive number")
    check_models(
        "" if config.masks and not config.removal.verify else config.segmenter,
        config.inpainter,
        adapter=config.adapter,
        num_steps=config.num_steps,
        options=config.diffusion,
        samples=config.removal.samples,
    )


def _settings(config: BatchConfig) -> dict[str, Any]:
    """What the pixels depend on beside each input and its prompt."""
    return {
        "schema_version": SCHEMA_VERSION,
        "segmenter": _identity(config.segmenter, "segmenter"),
        "inpainter": _identity(config.inpainter, "inpainter"),
        "adapter": _identity(config.adapter or config.inpainter, "adapter"),
        "num_steps": config.num_steps,
        "diffusion": asdict(config.diffusion),
        "fill": asdict(config.fill),
        "removal": asdict(config.removal),
        "masks": config.masks,
        "seed": config.seed,
    }


def _identity(name: str, part: str) -> str:
    """Names a model so that other weights under the same name are told apart, where they can be."""
    folder = shipped(part) if name in ("tiny", "tiny-base") else Path(name)
    manifest = folder / WEIGHTS_MANIFEST
    return f"{name}@{sha256_of(manifest)}" if manifest.is_file() else name


def _record(
    rows: Iterator[stages.Row], store: BatchStore, total: int, progress: Callable[[str], None]
) -> None:
    counts: Counter[str] = Counter()
    started = told = time.monotonic()
    for row in rows:
        store.add([{name: row[name] for name in MANIFEST_SCHEMA.names}])
        counts[row["status"]] += 1
        now = time.monotonic()
        if now - told >= _SECONDS_PER_PROGRESS or counts.total() == total:
            told = now
            statuses = ", ".join(f"{status} {count:,}" for status, count in sorted(counts.items()))
            rate = counts.total() / (now - started)
            progress(f"{counts.total():,} of {total:,} inputs ({statuses}), {rate:.1f}/s")


def _finished_rows(config: BatchConfig, plan: BatchPlan, todo: list[BatchInput]) -> Iterator[stages.Row]:
    """Runs the stages, and yields each input's row as it is done, in no particular order."""
    rows = _source(config, plan, todo)
    rows.context.execution_no_progress_timeout_s = config.stall_timeout_s
    size, actors = config.batch_size, _actor_options(config)
    rows = in_small_blocks(_tasks(rows, size, stages.read), size)
    if config.masks:
        rows = _tasks(rows, size, stages.take_masks)
    else:
        rows = rows.map_batches(
            SegmentActor,
            fn_constructor_args=(absolute(config.segmenter), _device(config)),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=config.segment_actors),
            **actors,
        )
    rows = rows.map_batches(
        InpaintActor,
        fn_constructor_kwargs={
            "segmenter": absolute(config.segmenter) if config.removal.verify else "",
            "inpainter": absolute(config.inpainter),
            "adapter": config.adapter and absolute(config.adapter),
            "num_steps": config.num_steps,
            "options": config.diffusion,
            "fill": config.fill,
            "removal": config.removal,
            "device": _device(config),
        },
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=config.inpaint_actors),
        **actors,
    )
    rows = _tasks(rows, size, stages.write, out=config.out.resolve())
    try:
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in batch.to_pylist():
                if row["failure"]:
                    raise ConfigError(row["failure"])
                yield row
    except ExecutionTimeoutError:
        raise ConfigError(
            f"nothing was done for {config.stall_timeout_s} s; slow models need a larger --stall-timeout-s "
            "or a smaller --batch-size. What was done is kept: the same command goes on"
        ) from None


def _source(config: BatchConfig, plan: BatchPlan, todo: list[BatchInput]) -> ray.data.Dataset:
    """The inputs that are not done yet as rows of STAGE_SCHEMA."""
    if plan.prepared is None:
        table = stages.as_table(
            [stages.new_row(entry.input_id, entry.prompt, config.seed, path=entry.path) for entry in todo]
        )
        step = max(config.batch_size, math.ceil(len(todo) / _MAX_BLOCKS))
        return ray.data.from_arrow([table[start : start + step] for start in range(0, len(todo), step)])
    todo_ids = ray.put(frozenset(entry.input_id for entry in todo))
    columns = ["example_id", "prompt", "image", *(["mask"] if config.masks else [])]
    examples = read_prepared(plan.prepared, split=config.split).select_columns(columns)
    return _tasks(examples, config.batch_size, stages.from_examples, ids=todo_ids, seed=config.seed)


def _tasks(
    rows: ray.data.Dataset, batch_size: int, stage: Callable[..., list[stages.Row]], **arguments: object
) -> ray.data.Dataset:
    """Adds a stage that keeps no model: short tasks wherever there is room."""

    # A closure travels by value: a task then imports `stages` alone, and not this module with its torch.
    def run_stage(table: pa.Table) -> pa.Table:
        given = {name: ray.get(a) if isinstance(a, ray.ObjectRef) else a for name, a in arguments.items()}
        return stages.as_table(stage(table.to_pylist(), **given))

    return rows.map_batches(run_stage, batch_format="pyarrow", batch_size=batch_size, num_cpus=_TASK_CPUS)


def _actor_options(config: BatchConfig) -> dict[str, Any]:
    # All actors together take at most half of the CPUs: the tasks that read and write need some, or
    # everybody waits for everybody.
    actors = config.inpaint_actors + (0 if config.masks else config.segment_actors)
    share = ray.cluster_resources().get("CPU", 1.0) / 2 / actors
    return {
        "batch_format": "pyarrow",
        "batch_size": config.batch_size,
        "num_cpus": max(0.01, min(1.0, math.floor(share * 100) / 100)),
        "num_gpus": config.gpus_per_actor or None,
    }


def _device(config: BatchConfig) -> str:
    return "cuda" if config.gpus_per_actor else "cpu"
