"""A user's own photos, masks and prompts as rows like PIPE's: a CSV file says what belongs together."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from textremove.errors import DatasetError
from textremove.pipe.source import SourceRow
from textremove.storage import Store, open_store

DATASET_NAME = "folder"
"""The first part of the example ids of such rows."""

COLUMNS = ("image", "prompt", "mask", "truth")
_PLACE_SEPARATOR = " at the "
_ENTRIES_PER_SHARD = 500


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the CSV file: paths within the two folders, and the prompt."""

    line: int
    image: str
    mask: str
    truth: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class FolderRows:
    """Some lines of the CSV file, to be read when their turn comes.

    Attributes:
        images: Folder of photos, with the object and, where there are any, without.
        masks: Folder of masks.
        entries: The lines.
    """

    images: Store
    masks: Store
    entries: tuple[Entry, ...]

    def __str__(self) -> str:
        return f"lines {self.entries[0].line} to {self.entries[-1].line}"

    def rows(self, mask_tables: Sequence[pa.Table]) -> Iterator[SourceRow]:
        """Yields the rows, one photo in memory at a time; a file that is not there is a null cell."""
        for entry in self.entries:
            what, _, place = entry.prompt.rpartition(_PLACE_SEPARATOR)
            yield SourceRow(
                name=f"line {entry.line}: {entry.image}",
                columns={
                    "target_img": {"bytes": _read(self.images, entry.image)},
                    "source_img": {"bytes": _read(self.images, entry.truth)} if entry.truth else None,
                    "Instruction_Class": what or entry.prompt,
                    "object_location": place if what else "",
                    "target_img_dataset": DATASET_NAME,
                    "img_id": entry.image,
                    "ann_id": str(entry.line),
                },
                mask=_read(self.masks, entry.mask),
            )


def read_folder(images: str, masks: str, prompts: str) -> tuple[list[FolderRows], bool]:
    """Reads which photos, masks and prompts belong together.

    Args:
        images: Folder of photos; a path or an s3:// address.
        masks: Folder of masks.
        prompts: CSV file with a heading. Columns: "image" and "prompt"; "mask", by default the photo's name
            with the ending .png; "truth", the photo without the object, for training an inpainter.

    Returns:
        (the rows in shards of a few hundred, whether they have photos without the object).

    Raises:
        DatasetError: The CSV file is missing or has no such columns.
    """
    folder, _, name = prompts.rpartition("/")
    try:
        text = open_store(folder or ".").read(name).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{prompts} cannot be read as text ({error}); give a CSV file") from None
    reader = csv.DictReader(io.StringIO(text))
    headings = reader.fieldnames or []
    if "image" not in headings or "prompt" not in headings or set(headings) - set(COLUMNS):
        raise DatasetError(
            f"{prompts} has the columns {', '.join(headings) or '(none)'}; "
            f"it takes image and prompt, and if need be mask and truth"
        )
    for location in (images, masks):
        if not open_store(location).exists():
            raise DatasetError(f"there is no folder {location}; give the one that holds the photos or masks")
    entries = [_entry(line, cells) for line, cells in enumerate(reader, start=2)]
    if not entries:
        raise DatasetError(f"{prompts} has no line under its heading")
    shards = [
        FolderRows(
            images=open_store(images),
            masks=open_store(masks),
            entries=tuple(entries[start : start + _ENTRIES_PER_SHARD]),
        )
        for start in range(0, len(entries), _ENTRIES_PER_SHARD)
    ]
    return shards, "truth" in headings


def _entry(line: int, cells: dict[str, str | None]) -> Entry:
    image = (cells["image"] or "").strip()
    stem = image.rpartition(".")[0] or image
    return Entry(
        line=line,
        image=image,
        mask=(cells.get("mask") or "").strip() or f"{stem}.png",
        truth=(cells.get("truth") or "").strip(),
        prompt=" ".join((cells["prompt"] or "").split()),
    )


def _read(store: Store, name: str) -> bytes | None:
    try:
        return store.read(name) if name else None
    except OSError:
        return None
