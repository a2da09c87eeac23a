"""PIPE shards of real sizes for the benchmarks: procedural scenes at 512 px, as JPEG."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from textremove.atomic import atomic_dir
from textremove.images import encode_image
from textremove.pipe.scene_rows import scene_rows
from textremove.pipe.scenes import SceneConfig
from textremove.schema import PIPE_MASKS_SCHEMA, PIPE_SCHEMA

SIDE = 512
ROWS_PER_SHARD = 1000
ROWS_PER_GROUP = 100  # as on the hub
_ROWS_PER_DRAWING = 10  # drawing a scene takes far longer than encoding one


def make_shards(out: Path, *, num_rows: int, seed: int = 11) -> None:
    """Writes rows in the hub's layout, unless they are there.

    Every drawn row gives ten, each in a brightness and under a photo id of its own: as many distinct files
    as rows, at a tenth of the time.

    Args:
        out: Gets PIPE/data and PIPE_Masks/data.
        num_rows: How many, a multiple of ROWS_PER_SHARD.
        seed: Of the scenes.
    """
    if out.is_dir():
        return
    jobs = [(seed, index) for index in range(num_rows // ROWS_PER_SHARD)]
    with atomic_dir(out) as partial, multiprocessing.Pool(os.cpu_count()) as pool:
        for name in ("PIPE", "PIPE_Masks"):
            (partial / name / "data").mkdir(parents=True)
        work = pool.imap_unordered(_write_shard, [(*job, partial) for job in jobs])
        for _ in tqdm(work, total=len(jobs), desc=f"{num_rows:,} rows at {SIDE} px, shards"):
            pass


def first_shards(whole: Path, out: Path, *, num_rows: int) -> None:
    """Makes a folder of links to the first so many rows of another one's shards, unless it is there."""
    for name in ("PIPE", "PIPE_Masks"):
        (out / name / "data").mkdir(parents=True, exist_ok=True)
        for file in sorted((whole / name / "data").glob("*.parquet"))[: num_rows // ROWS_PER_SHARD]:
            link = out / name / "data" / file.name
            if not link.exists():
                link.symlink_to(file.resolve())


def _write_shard(job: tuple[int, int, Path]) -> None:
    seed, index, out = job
    scenes = ROWS_PER_SHARD // _ROWS_PER_DRAWING
    config = SceneConfig(size=SIDE, photo_format="jpeg", max_rows=1)
    drawn = scene_rows(seed, scenes, config, start=index * scenes)
    rows = [variant for row in drawn for variant in _variants(row)]
    for name, schema in (("PIPE", PIPE_SCHEMA), ("PIPE_Masks", PIPE_MASKS_SCHEMA)):
        table = pa.Table.from_pylist([{c: row[c] for c in schema.names} for row in rows], schema=schema)
        path = out / name / "data" / f"train-{index:05d}.parquet"
        pq.write_table(table, path, row_group_size=ROWS_PER_GROUP)


def _variants(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pictures = {
        name: np.asarray(Image.open(io.BytesIO(row[name]["bytes"]))).astype(np.int16)
        for name in ("target_img", "source_img")
    }
    for k in range(_ROWS_PER_DRAWING):
        shifted = {
            name: {
                "bytes": encode_image(np.clip(p + 4 * k, 0, 255).astype(np.uint8), format="jpeg"),
                "path": None,
            }
            for name, p in pictures.items()
        }
        yield row | shifted | {"img_id": f"{row['img_id']}-{k}", "ann_id": f"{row['ann_id']}-{k}"}
