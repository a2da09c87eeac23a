"""PIPE shards to a prepared folder: a Ray task for each shard, which streams it through.

No picture passes through the driver. It reads only the key columns; the mask tables lie in Ray's object
store, one object for each mask shard, shared by all tasks of a node; a task reads its image shard a few
rows at a time, picks its masks by key, writes its own part files and then enters the shard in the journal,
so it answers with counts alone and a shard in the journal is never done again.

Plain tasks and no Ray Data: a task here neither takes nor gives rows that Ray Data could stream, and what it
would bring along (two actors, and its imports in every worker) costs 16 CPU seconds.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import ray

from textremove.errors import ConfigError, DatasetError, UserError
from textremove.onray.cluster import connect
from textremove.pipe.duplicates import find_duplicates
from textremove.pipe.folder import read_folder
from textremove.pipe.parts import BYTES_PER_FILE, rewrite_without
from textremove.pipe.prepared import DATASET_FILE
from textremove.pipe.shard import STOP_FILE, RowSource, ShardSummary, ShardTask, Stopped, prepare_shard
from textremove.pipe.source import (
    IMAGE_COLUMNS,
    MASK_COLUMNS,
    Shard,
    choose_rows,
    find_shards,
    read_keys,
    read_masks,
)
from textremove.pipe.summary import dataset_info
from textremove.pipe.unfinished import UnfinishedFolder
from textremove.report.dataset import dataset_page
from textremove.schema import SCHEMA_VERSION
from textremove.storage import Store

PAGE_FILE = "dataset.html"
_STOP_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to prepare and where to. Folders are paths, or addresses such as s3://bucket/folder.

    Attributes:
        images: Folder with the parquet shards of PIPE; with --format folder, of photos.
        masks: Folder with the parquet shards of PIPE_Masks; with --format folder, of masks.
        out: Folder to write; complete under that name or not there. On a cluster, one that every node sees.
        format: "pipe", or "folder" for photos of one's own.
        prompts: With --format folder: CSV file with the columns image and prompt, and if need be mask and
            truth (the photo without the object).
        limit: Use only so many rows, a sample spread over all shards; 0 for all.
        resolution: Longest side of the examples in pixels at most; 0 keeps every photo's size.
        megabytes_per_file: Size of the part files.
        overwrite: Whether to replace what is in `out`.
        address: A running Ray cluster; by default RAY_ADDRESS, else a local Ray is started.
    """

    images: str
    masks: str
    out: str
    format: Literal["pipe", "folder"] = "pipe"
    prompts: str = ""
    limit: int = 0
    resolution: int = 0
    megabytes_per_file: int = BYTES_PER_FILE // 2**20
    overwrite: bool = False
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Plan:
    tasks: list[ShardTask]
    mask_shards: list[Shard]
    settings: dict[str, Any]  # what the examples depend on besides the rows
    contents: list[str]  # the rows by name: another list of them is another job


def prepare(config: PrepareConfig, *, progress: Callable[[str], None] = print) -> dict[str, Any]:
    """Prepares a folder of examples. After a crash or a Ctrl-C, the same call goes on where it stopped.

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
    if config.megabytes_per_file < 1:
        raise ConfigError("--megabytes-per-file must be at least 1")
    plan = _plan_folder(config) if config.format == "folder" else _plan_pipe(config)
    job = {"schema_version": SCHEMA_VERSION, "settings": plan.settings, "contents": plan.contents}
    folder = UnfinishedFolder(str(config.out), job, overwrite=config.overwrite)
    try:
        # The connection is the inner one: no task may still write when leavings are swept away.
        with connect(config.address):
            done = folder.begin()
            if done:
                progress(f"{len(done)} of {len(plan.tasks)} shards are prepared already; going on")
            _run(plan, done, folder.store, progress)
            summaries = folder.summaries()
            duplicates = find_duplicates(pa.concat_tables(summary.examples for summary in summaries))
            rewritten = _take_out(duplicates, summaries, folder.store)
        info = dataset_info(
            summaries, folder.store, plan.settings, duplicates=duplicates, rewritten=rewritten
        )
        if not info["examples_kept"]:
            folder.store.delete_folder()
            reasons = ", ".join(f"{reason} {entry['count']}" for reason, entry in info["rejected"].items())
            raise DatasetError(f"none of {info['rows_read']} rows of {config.images} can be used: {reasons}")
        documents = {
            DATASET_FILE: (json.dumps(info, indent=2) + "\n").encode(),
            PAGE_FILE: dataset_page(info, folder.store).encode(),
        }
        folder.publish(info["files"], documents)
    except BaseException:
        folder.leave()
        raise
    return info


def _plan_pipe(config: PrepareConfig) -> _Plan:
    """Reads the keys of both tables and says which rows of which shard to use."""
    mask_shards = find_shards(str(config.masks), MASK_COLUMNS)
    chosen = choose_rows(find_shards(str(config.images), IMAGE_COLUMNS), limit=config.limit)
    mask_keys = pa.concat_arrays([read_keys(shard) for shard in mask_shards]).drop_null()
    if not any(pc.any(pc.is_in(rows.keys, value_set=mask_keys)).as_py() for rows in chosen):
        raise DatasetError(
            f"no row of {config.images} has a mask in {config.masks}: no key is in both; "
            f"check that the two folders belong together"
        )
    contents = [f"{rows.shard.name} {rows.takes} {rows.keys.to_pylist()}" for rows in chosen]
    contents.append(f"masks {mask_keys.to_pylist()}")
    return _Plan(
        tasks=[_task(config, index, rows) for index, rows in enumerate(chosen)],
        mask_shards=mask_shards,
        settings=_settings(config),
        contents=contents,
    )


def _plan_folder(config: PrepareConfig) -> _Plan:
    """Reads the CSV file and says which photos are prepared together."""
    if not config.prompts:
        raise ConfigError("--format folder needs --prompts: a CSV file with the columns image and prompt")
    sources, with_truth = read_folder(str(config.images), str(config.masks), str(config.prompts))
    return _Plan(
        tasks=[_task(config, index, rows, with_truth=with_truth) for index, rows in enumerate(sources)],
        mask_shards=[],
        settings=_settings(config, with_truth=with_truth),
        contents=[repr(rows.entries) for rows in sources],
    )


def _task(config: PrepareConfig, index: int, source: RowSource, *, with_truth: bool = True) -> ShardTask:
    return ShardTask(
        index=index,
        source=source,
        resolution=config.resolution,
        with_truth=with_truth,
        bytes_per_file=config.megabytes_per_file * 2**20,
    )


def _settings(config: PrepareConfig, *, with_truth: bool = True) -> dict[str, Any]:
    return {
        "format": config.format,
        "limit": config.limit,
        "resolution": config.resolution,
        "megabytes_per_file": config.megabytes_per_file,
        "with_truth": with_truth,
    }


def _run(plan: _Plan, done: set[int], store: Store, progress: Callable[[str], None]) -> None:
    """Prepares the shards that are not done yet; they finish in no particular order."""
    tasks = [task for task in plan.tasks if task.index not in done]
    if not tasks:
        return
    read = ray.remote(read_masks)
    mask_tables = [read.remote(shard) for shard in plan.mask_shards]
    prepare_one = ray.remote(_preparing(store))
    # As many run at a time as there are slots; one whose worker dies is begun again by Ray.
    # The mask tables are arguments: fetched inside, they would give the slot away to one task too many.
    running = [
        prepare_one.options(name=f"prepare_shard {task.source}").remote(pickle.dumps(task), *mask_tables)
        for task in tasks
    ]
    try:
        for number in range(len(done) + 1, len(plan.tasks) + 1):
            (finished,), running = ray.wait(running)
            row = ray.get(finished)
            if row["error"]:
                raise DatasetError(row["error"])
            progress(
                f"shard {number} of {len(plan.tasks)}, {row['name']}: "
                f"{row['rows_read']:,} rows read, {row['examples']:,} examples kept"
            )
    finally:
        _stop(running, store)


def _stop(running: list[ray.ObjectRef], store: Store) -> None:
    """Ends tasks, so that nothing writes any more.

    They are told through the folder. `ray.cancel` on a task that ends at that moment can take the driver
    down with it: https://github.com/ray-project/ray/pull/54798, and still so in Ray 2.60.
    """
    if running:
        store.write(STOP_FILE, b"")
        ray.wait(running, num_returns=len(running), timeout=_STOP_SECONDS)


def _preparing(store: Store) -> Callable[..., dict[str, Any]]:
    """Gives what each task does: prepares one shard, and says in a few words what became of it."""

    # A closure travels by value: a task then imports `prepare_shard` alone, and not this module, whose page
    # for people would cost every worker seconds.
    def prepare_one(pickled: bytes, *mask_tables: pa.Table) -> dict[str, Any]:
        task: ShardTask = pickle.loads(pickled)
        answer = {"name": str(task.source), "rows_read": 0, "examples": 0, "error": ""}
        try:
            summary = prepare_shard(task, mask_tables, store)
        except UserError as error:  # told in one line by the driver, not in Ray's traceback
            return answer | {"error": str(error)}
        except Stopped:
            return answer
        summary.save(store)
        return answer | {"rows_read": summary.rows_read, "examples": summary.examples.num_rows}

    return prepare_one


def _take_out(
    duplicates: pa.Array, summaries: Sequence[ShardSummary], store: Store
) -> dict[str, dict[str, Any]]:
    """Takes examples out of the files that hold them; gives those files' new entries."""
    if not len(duplicates):
        return {}
    entries = {file["path"]: file for summary in summaries for file in summary.files}
    held = pa.concat_tables(summary.examples for summary in summaries)
    held = held.filter(pc.is_in(held["example_id"], value_set=duplicates))
    rewrite = ray.remote(rewrite_without)
    paths = sorted(set(held["file"].to_pylist()))
    written = ray.get([rewrite.remote(store, entries[path], duplicates) for path in paths])
    return dict(zip(paths, written, strict=True))
