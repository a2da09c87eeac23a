"""Prepared examples as Ray datasets."""

from __future__ import annotations

from pathlib import Path

import ray.data

from textremove.pipe.prepared import count_prepared, prepared_files
from textremove.storage import open_store

_MAX_BLOCKS = 16
_ROWS_PER_BLOCK = 64


def read_prepared(
    path: Path | str,
    *,
    split: str | None,
    num_blocks: int | None = None,
) -> ray.data.Dataset:
    """Reads one split of a prepared folder, or all of it for None, as a dataset.

    Args:
        path: The prepared folder; on a cluster, one that every node sees.
        split: One of `textremove.schema.SPLITS`.
        num_blocks: Pieces to read in parallel; None chooses by the number of rows.

    Returns:
        Rows of EXAMPLE_SCHEMA, in no particular order.

    Raises:
        DatasetError: The folder is not a prepared one, there is no such split, or it is empty.
    """
    files, filesystem = prepared_files(path, split=split), open_store(path).filesystem
    num_rows = count_prepared(path, split=split)
    blocks = num_blocks or max(1, min(_MAX_BLOCKS, num_rows // _ROWS_PER_BLOCK))
    # The folder names say "split=train" for people; the files hold that column themselves.
    return ray.data.read_parquet(
        files,
        filesystem=filesystem,
        partitioning=None,
        override_num_blocks=max(blocks, 1),
    )


def in_small_blocks(rows: ray.data.Dataset, num_rows: int) -> ray.data.Dataset:
    """Cuts blocks before a slow stage, so that its results are handed on soon and its actors share the work.

    An actor hands on what it has made when it is done with a block. Blocks as they are read have hundreds of
    rows or thousands: hours without a result, which Ray Data takes for a standstill, and lost with the job.

    Args:
        rows: What the slow stage takes.
        num_rows: Of a block, at most.
    """
    return rows.repartition(target_num_rows_per_block=num_rows)
