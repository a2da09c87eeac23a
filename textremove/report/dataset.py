"""The page of a prepared folder: what became of the rows, and some examples to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from textremove.images import decode_image, decode_mask
from textremove.report.figures import bar_chart, mask_picture, shrink
from textremove.report.page import Picture, PictureRow, Report, Section, Table, render_report
from textremove.schema import SPLITS
from textremove.storage import Store

_NUM_EXAMPLES = 12
_PICTURE_SIDE = 200  # pixels; a page with a dozen examples stays under a megabyte
_MAX_BARS = 15


def dataset_page(info: Mapping[str, Any], store: Store) -> str:
    """Renders the page of a prepared folder.

    Args:
        info: Its dataset.json.
        store: The folder with the part files.

    Returns:
        An HTML document with every picture inside.
    """
    sections = [_rows(info), _examples(info, store), _histograms(info)]
    return render_report(
        Report(
            title="A prepared dataset",
            lead=(
                f"{info['examples_kept']:,} examples of {info['rows_read']:,} rows: photo with an object, "
                "its mask, the prompt that names it, and the photo without it."
            ),
            sections=sections,
            environment=[
                ("fingerprint", info["fingerprint"]),
                ("schema version", str(info["schema_version"])),
                *((name, str(value)) for name, value in info["settings"].items()),
            ],
        )
    )


def _rows(info: Mapping[str, Any]) -> Section:
    splits = Table(
        columns=["split", "examples", "photos"],
        rows=[[name, info["splits"][name]["examples"], info["splits"][name]["photos"]] for name in SPLITS],
        caption=f"Split by photo. Photos in two splits: {info['photos_in_two_splits']}.",
    )
    counted = [
        Table(
            columns=[heading, "rows", "such as"],
            rows=[
                [reason, entry["count"], ", ".join(entry["samples"])] for reason, entry in info[name].items()
            ],
        )
        for name, heading in (("rejected", "rejected because"), ("notes", "kept, but"))
        if info[name]
    ]
    return Section(title="What became of the rows", tables=[splits, *counted])


def _examples(info: Mapping[str, Any], store: Store) -> Section:
    return Section(
        title="Examples",
        text=["Spread evenly over the files, good or bad."],
        picture_rows=[_picture_row(row) for row in _spread(info["files"], store)],
    )


def _histograms(info: Mapping[str, Any]) -> Section:
    figures = []
    for name in ("classes", "places"):
        counts = {key or "(none)": float(count) for key, count in info[name].items()}
        shown = dict(list(counts.items())[:_MAX_BARS])
        left = len(counts) - len(shown)
        title = f"Examples by {'class' if name == 'classes' else 'place'}"
        figures.append(bar_chart(shown, title=title + (f"; {left} more" if left else ""), digits=0))
    return Section(title="What is in them", figures=figures)


def _spread(files: Sequence[Mapping[str, Any]], store: Store) -> Iterator[dict[str, Any]]:
    """Yields examples at even distances; of their files only the row groups that hold them are read."""
    ends = list(accumulate(file["examples"] for file in files))
    count = min(_NUM_EXAMPLES, ends[-1])
    for k in range(count):
        position = k * ends[-1] // count
        number = int(np.searchsorted(ends, position, side="right"))
        row = position - (ends[number - 1] if number else 0)
        path = store.path(files[number]["path"])
        with store.filesystem.open_input_file(path) as file, pq.ParquetFile(file) as parquet:
            group = 0
            while row >= (size := parquet.metadata.row_group(group).num_rows):
                row, group = row - size, group + 1
            yield parquet.read_row_group(group).slice(row, 1).to_pylist()[0]


def _picture_row(row: Mapping[str, Any]) -> PictureRow:
    pictures = [
        _picture(decode_image(row["image"]), "input"),
        _picture(mask_picture(decode_mask(row["mask"])), "mask"),
    ]
    if row["truth"] is not None:
        pictures.append(_picture(decode_image(row["truth"]), "truth"))
    return PictureRow(title=f"“{row['prompt']}” ({row['split']}, {row['example_id']})", pictures=pictures)


def _picture(image: np.ndarray, caption: str) -> Picture:
    return Picture(image=shrink(image, _PICTURE_SIDE), caption=caption, format="jpeg")
