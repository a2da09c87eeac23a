"""PIPE shards to a prepared folder: Ray Data schedules the shards, each task streams one through.

No picture passes through the driver. It reads only the key columns; the mask tables lie in Ray's object
store, one object for each mask shard, shared by all tasks of a node; a task reads its image shard a few
rows at a time, picks its masks by key, and writes its own part files, so it answers with counts alone.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from textremove.atomic import atomic_dir
from textremove.errors import ConfigError, DatasetError, UserError
from textremove.onray.cluster import connect
from textremove.pipe.prepared import DATASET_FILE
from textremove.pipe.shard import ShardSummary, ShardTask, prepare_shard
from textremove.pipe.source import IMAGE_COLUMNS, MASK_COLUMNS, find_shards, read_keys, read_masks
from textremove.pipe.summary import dataset_info
from textremove.schema import SPLITS

_NO_PROGRESS_SECONDS = 3600  # a full-size shard says nothing until it is done; that is no hang


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to prepare and where to.

    Attributes:
        images: Folder with the parquet shards of PIPE.
        masks: Folder with the parquet shards of PIPE_Masks.
        out: Folder to write; appears whole or not at all. On a cluster, one that every node sees.
        limit: Use only the first so many rows, in the order of the shards' names; 0 for all.
        resolution: Longest side of the examples in pixels at most; 0 keeps every photo's size.
        overwrite: Whether to replace what is in `out`.
        address: A running Ray cluster; by default RAY_ADDRESS, else a local Ray is started.
    """

    images: Path
    masks: Path
    out: Path
    limit: int = 0
    resolution: int = 0
    overwrite: bool = False
    address: str | None = None


def prepare(config: PrepareConfig, *, progress: Callable[[str], None] = print) -> dict[str, Any]:
    """Prepares a folder of examples.

    Args:
        config: What and where to.
        progress: Takes a line for a person as each shard is done.

    Returns:
        What was written to dataset.json.

    Raises:
        UserError: The folders cannot be used as they are; nothing is written.
    """
    if config.limit < 0 or config.resolution < 0:
        raise ConfigError("--limit and --resolution take a positive number, or 0 for no limit")
    mask_shards = find_shards(config.masks, MASK_COLUMNS)
    tasks = _plan(config, mask_shards)
    # The connection is the inner one: no task may still write when an interrupt clears the folder away.
    with atomic_dir(config.out, overwrite=config.overwrite) as partial:
        for split in SPLITS:
            (partial / f"split={split}").mkdir()
        with connect(config.address):
            summaries = list(_run(tasks, mask_shards, partial.resolve(), progress))
        info = dataset_info(
            summaries, partial, settings={"limit": config.limit, "resolution": config.resolution}
        )
        if not info["examples_kept"]:
            reasons = ", ".join(f"{reason} {entry['count']}" for reason, entry in info["rejected"].items())
            raise DatasetError(f"none of {info['rows_read']} rows of {config.images} can be used: {reasons}")
        for split in SPLITS:
            if not info["splits"][split]["examples"]:
                (partial / f"split={split}").rmdir()
        (partial / DATASET_FILE).write_text(json.dumps(info, indent=2) + "\n")
    return info


def _plan(config: PrepareConfig, mask_shards: list[Path]) -> list[ShardTask]:
    """Reads the keys of both tables and says which rows of which shard to use."""
    paths: list[Path] = []
    keys: list[pa.Array] = []
    left = config.limit or None
    for shard in find_shards(config.images, IMAGE_COLUMNS):
        paths.append(shard)
        keys.append(read_keys(shard)[:left])
        left = None if left is None else left - len(keys[-1])
        if left == 0:
            break
    mask_keys = pa.concat_arrays([read_keys(shard) for shard in mask_shards]).drop_null()
    if not any(pc.any(pc.is_in(shard_keys, value_set=mask_keys)).as_py() for shard_keys in keys):
        raise DatasetError(
            f"no row of {config.images} has a mask in {config.masks}: no key is in both; "
            f"check that the two folders belong together"
        )
    return [
        ShardTask(
            index=index,
            path=str(path.resolve()),
            keys=shard_keys,
            repeats=repeats,
            resolution=config.resolution,
        )
        for index, (path, shard_keys, repeats) in enumerate(zip(paths, keys, _repeats(keys), strict=True))
    ]


def _repeats(keys: list[pa.Array]) -> list[frozenset[int]]:
    """Finds for each shard the rows whose key an earlier row has already; example ids are unique."""
    counts = pc.value_counts(pa.concat_arrays(keys).drop_null())
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    seen: set[str] = set()
    repeats = []
    for shard_keys in keys:
        rows = set()
        for row in pc.indices_nonzero(pc.is_in(shard_keys, value_set=repeated)).to_pylist():
            key = shard_keys[row].as_py()
            if key in seen:
                rows.add(row)
            seen.add(key)
        repeats.append(frozenset(rows))
    return repeats


def _run(
    tasks: list[ShardTask], mask_shards: list[Path], out: Path, progress: Callable[[str], None]
) -> Iterator[ShardSummary]:
    """Yields the shards' summaries as they are done, in no particular order."""
    read = ray.remote(read_masks)
    mask_tables = [read.remote(str(shard.resolve())) for shard in mask_shards]
    shards = ray.data.from_items(
        [{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=len(tasks)
    )
    done = shards.map(_prepare_one, fn_kwargs={"mask_tables": mask_tables, "out": str(out)})
    done.context.execution_no_progress_timeout_s = _NO_PROGRESS_SECONDS
    for number, row in enumerate(done.iter_rows(), start=1):
        if row["error"]:
            raise DatasetError(row["error"])
        summary: ShardSummary = pickle.loads(row["summary"])
        name = Path(tasks[summary.index].path).name
        progress(
            f"shard {number} of {len(tasks)}, {name}: "
            f"{summary.rows_read:,} rows read, {summary.examples:,} examples kept"
        )
        yield summary


def _prepare_one(row: dict[str, Any], *, mask_tables: list[ray.ObjectRef], out: str) -> dict[str, Any]:
    task: ShardTask = pickle.loads(row["task"])
    try:
        summary = prepare_shard(task, ray.get(mask_tables), Path(out))
    except UserError as error:  # told in one line by the driver, not in Ray's traceback
        return {"summary": b"", "error": str(getattr(error, "cause", error))}
    return {"summary": pickle.dumps(summary), "error": ""}
