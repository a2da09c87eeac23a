"""What a prepared folder says about itself: dataset.json, and the same for a person."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from textremove.pipe.duplicates import REASON
from textremove.pipe.shard import ShardSummary, Tally
from textremove.schema import SCHEMA_VERSION, SPLITS
from textremove.storage import Store

_MAX_CLASSES_SHOWN = 12


def dataset_info(
    summaries: Iterable[ShardSummary],
    store: Store,
    settings: Mapping[str, Any],
    *,
    duplicates: pa.Array | None = None,
    rewritten: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Adds up what became of all shards, and counts photos in the files as they were written.

    The same rows and settings give the same content, whatever the machine and the order of work.

    Args:
        summaries: One for each shard, in any order.
        store: The folder with the part files.
        settings: What the examples depend on besides the rows.
        duplicates: Ids of examples that were taken out again, being of a photo under a second id.
        rewritten: New entries of the files that they were taken out of, by path.
    """
    summaries = sorted(summaries, key=lambda summary: summary.index)
    rejected, notes = Tally(), Tally()
    for summary in summaries:
        rejected.merge(summary.rejected)
        notes.merge(summary.notes)
    for example_id in [] if duplicates is None else duplicates.to_pylist():
        rejected.add(REASON, example_id)
    files = [
        dict((rewritten or {}).get(file["path"], file)) for summary in summaries for file in summary.files
    ]
    files = sorted((file for file in files if file["examples"]), key=lambda file: file["path"])
    examples = pa.concat_tables(summary.examples for summary in summaries)
    if duplicates is not None:
        examples = examples.filter(pc.invert(pc.is_in(examples["example_id"], value_set=duplicates)))
    photos = {split: _photos(store, files, split) for split in SPLITS}
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": _fingerprint(files),
        "rows_read": sum(summary.rows_read for summary in summaries),
        "examples_kept": examples.num_rows,
        "rejected": rejected.as_json(),
        "notes": notes.as_json(),
        "splits": {
            split: {
                "examples": sum(file["examples"] for file in files if file["split"] == split),
                "photos": len(photos[split]),
            }
            for split in SPLITS
        },
        "photos_in_two_splits": sum(map(len, photos.values())) - len(set().union(*photos.values())),
        "classes": _counted(examples["object_class"]),
        "places": _counted(examples["place"]),
        "settings": dict(settings),
        "files": files,
    }


def describe(info: dict[str, Any]) -> str:
    """Says in lines for a person what dataset.json says."""
    lines = [f"{info['rows_read']:,} rows read, {info['examples_kept']:,} examples kept"]
    for title, entries in (("rejected", info["rejected"]), ("mended and kept", info["notes"])):
        if entries:
            lines.append(f"{title}:")
        for reason, entry in entries.items():
            named = ", ".join(entry["samples"]) + (", ..." if entry["count"] > len(entry["samples"]) else "")
            lines.append(f"  {entry['count']:>7,}  {reason}  ({named})")
    lines.append("splits, by photo:")
    for split, sizes in info["splits"].items():
        lines.append(f"  {sizes['examples']:>7,}  {split}, of {sizes['photos']:,} photos")
    lines.append(f"photos in two splits: {info['photos_in_two_splits']}")
    lines.append(f"classes: {_histogram(info['classes'])}")
    lines.append(f"places: {_histogram(info['places'])}")
    return "\n".join(lines)


def _photos(store: Store, files: Iterable[Mapping[str, Any]], split: str) -> set[str]:
    """Reads back which photos are in a split: a check of what was written, not of what was meant."""
    photos: set[str] = set()
    for file in files:
        if file["split"] == split:
            path = store.path(file["path"])
            column = pq.read_table(path, columns=["photo_id"], filesystem=store.filesystem, partitioning=None)
            photos.update(column["photo_id"].to_pylist())
    return photos


def _counted(values: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    counts = Counter(values.to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _fingerprint(files: list[dict[str, Any]]) -> str:
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _histogram(counts: dict[str, int]) -> str:
    shown = [f"{name or '(none)'} {count:,}" for name, count in list(counts.items())[:_MAX_CLASSES_SHOWN]]
    left = len(counts) - len(shown)
    return ", ".join(shown) + (f", and {left} more" if left else "")
