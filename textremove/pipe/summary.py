"""What a prepared folder says about itself: dataset.json, and the same for a person."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from textremove.pipe.shard import ShardSummary, Tally
from textremove.schema import SCHEMA_VERSION, SPLITS

_MAX_CLASSES_SHOWN = 12


def dataset_info(summaries: Iterable[ShardSummary], out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Adds up what became of all shards, and counts photos in the files as they were written.

    The same rows and settings give the same content, whatever the machine and the order of work.

    Args:
        summaries: One for each shard, in any order.
        out: The folder with the part files.
        settings: What the examples depend on besides the rows.
    """
    summaries = sorted(summaries, key=lambda summary: summary.index)
    rejected, notes = Tally(), Tally()
    classes: Counter[str] = Counter()
    places: Counter[str] = Counter()
    for summary in summaries:
        rejected.merge(summary.rejected)
        notes.merge(summary.notes)
        classes.update(summary.classes)
        places.update(summary.places)
    files = sorted((file for summary in summaries for file in summary.files), key=lambda file: file["path"])
    photos = {split: _photos(out, files, split) for split in SPLITS}
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": _fingerprint(files),
        "rows_read": sum(summary.rows_read for summary in summaries),
        "examples_kept": sum(summary.examples for summary in summaries),
        "rejected": _as_json(rejected),
        "notes": _as_json(notes),
        "splits": {
            split: {
                "examples": sum(file["examples"] for file in files if file["split"] == split),
                "photos": len(photos[split]),
            }
            for split in SPLITS
        },
        "photos_in_two_splits": sum(map(len, photos.values())) - len(set().union(*photos.values())),
        "classes": dict(sorted(classes.items(), key=lambda item: (-item[1], item[0]))),
        "places": dict(sorted(places.items(), key=lambda item: (-item[1], item[0]))),
        "settings": settings,
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


def _photos(out: Path, files: list[dict[str, Any]], split: str) -> set[str]:
    """Reads back which photos are in a split: a check of what was written, not of what was meant."""
    return {
        photo
        for file in files
        if file["split"] == split
        for photo in pq.read_table(out / file["path"], columns=["photo_id"], partitioning=None)[
            "photo_id"
        ].to_pylist()
    }


def _fingerprint(files: list[dict[str, Any]]) -> str:
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _as_json(tally: Tally) -> dict[str, Any]:
    return {
        reason: {"count": count, "samples": tally.samples[reason]}
        for reason, count in sorted(tally.counts.items())
    }


def _histogram(counts: dict[str, int]) -> str:
    shown = [f"{name or '(none)'} {count:,}" for name, count in list(counts.items())[:_MAX_CLASSES_SHOWN]]
    left = len(counts) - len(shown)
    return ", ".join(shown) + (f", and {left} more" if left else "")
