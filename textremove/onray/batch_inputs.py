"""What a batch works on: photos of a folder, rows of a table, or prepared examples, each with a prompt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from textremove.errors import ConfigError, DatasetError
from textremove.pipe.prepared import DATASET_FILE, prepared_files

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif"}
)
"""Files of a folder that are meant as photos; those we cannot read get a row that says so."""

TABLE_SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchInput:
    """One photo to remove something from.

    Attributes:
        input_id: Its name in the manifest, unique within the batch.
        prompt: What to remove, as the user wrote it; empty when they wrote nothing.
        path: The photo's file, or the parquet file that holds it; bytes, as file names need not be text.
    """

    input_id: str
    prompt: str
    path: bytes


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Everything a batch is to do.

    Attributes:
        inputs: One entry per photo, in the manifest's order.
        prepared: The prepared folder the photos lie in; None when they are files.
        num_other_files: Files of the folder that are left alone because their names are not of photos.
    """

    inputs: list[BatchInput]
    prepared: Path | None = None
    num_other_files: int = 0


def plan_inputs(inputs: Path, *, out: Path, prompt: str, split: str | None) -> BatchPlan:
    """Lists what there is to do, without opening a photo.

    Args:
        inputs: A folder of photos, a prepared folder, or a table with the columns path and prompt.
        out: The output folder; when it lies inside the input folder, nothing in it is an input.
        prompt: The prompt of photos that bring none.
        split: Of a prepared folder, which split; None for all.

    Raises:
        UserError: There is nothing to do, or no telling what.
    """
    if (inputs / DATASET_FILE).is_file():
        if prompt:
            raise ConfigError(f"{inputs} is a prepared folder and brings its own prompts; leave out --prompt")
        return BatchPlan(inputs=list(_prepared_inputs(inputs, split)), prepared=inputs)
    if split is not None:
        raise ConfigError(f"--split is for prepared folders, and {inputs} has no {DATASET_FILE}")
    if inputs.is_dir():
        return _folder_plan(inputs, out=out, prompt=prompt)
    if inputs.suffix.lower() not in TABLE_SUFFIXES:
        raise ConfigError(
            f"--inputs {inputs} is not a folder nor a {' or '.join(TABLE_SUFFIXES)} file; "
            f"for one photo use `textremove remove`"
        )
    if not inputs.is_file():
        raise DatasetError(f"there is no table {inputs}")
    return BatchPlan(inputs=list(_table_inputs(inputs, prompt=prompt)))


def _prepared_inputs(folder: Path, split: str | None) -> Iterator[BatchInput]:
    for file in prepared_files(folder, split=split):
        path = os.fsencode(file)
        for row in pq.read_table(file, columns=["example_id", "prompt"], partitioning=None).to_pylist():
            yield BatchInput(input_id=row["example_id"], prompt=row["prompt"], path=path)


def _folder_plan(folder: Path, *, out: Path, prompt: str) -> BatchPlan:
    if not prompt.strip():
        raise ConfigError('say what to remove: --prompt "person at the left"')
    root, written = folder.resolve(), out.resolve()
    names, others = [], 0
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and Path(parent, n) != written)
        for name in sorted(n for n in files if not n.startswith(".")):
            if PurePath(name).suffix.lower() in IMAGE_SUFFIXES:
                names.append(Path(parent, name).relative_to(root))
            else:
                others += 1
    if not names:
        raise DatasetError(f"{folder} holds no photos ({', '.join(sorted(IMAGE_SUFFIXES))})")
    inputs = [
        BatchInput(input_id=_as_text(name), prompt=prompt, path=os.fsencode(root / name)) for name in names
    ]
    return BatchPlan(inputs=inputs, num_other_files=others)


def _table_inputs(file: Path, *, prompt: str) -> Iterator[BatchInput]:
    table = _read_table(file)
    if "path" not in table.column_names or ("prompt" not in table.column_names and not prompt):
        raise DatasetError(
            f"{file} has the columns {', '.join(table.column_names)}; a table needs path, "
            f"and prompt unless --prompt is given for all"
        )
    if not table.num_rows:
        raise DatasetError(f"{file} has no rows")
    root = file.resolve().parent
    paths = pc.cast(table["path"], pa.string()).to_pylist()
    prompts = pc.cast(table["prompt"], pa.string()).to_pylist() if "prompt" in table.column_names else paths
    own_prompts = "prompt" in table.column_names
    rows: dict[str, int] = {}
    for number, (name, own) in enumerate(zip(paths, prompts, strict=True), start=1):
        if not name:
            raise DatasetError(f"{file}: row {number} has no path")
        path = Path(os.path.normpath(root / name))
        input_id = _as_text(
            path.relative_to(root) if path.is_relative_to(root) else path.relative_to(path.anchor)
        )
        if input_id in rows:
            raise DatasetError(
                f"{file}: {name} is in row {rows[input_id]} and again in row {number}; one row for each photo"
            )
        rows[input_id] = number
        yield BatchInput(
            input_id=input_id, prompt=(own or prompt) if own_prompts else prompt, path=os.fsencode(path)
        )


def _read_table(file: Path) -> pa.Table:
    try:
        if file.suffix.lower() == ".parquet":
            return pq.read_table(file, partitioning=None)
        texts = pa.csv.ConvertOptions(
            column_types={"path": pa.string(), "prompt": pa.string()},
            strings_can_be_null=True,
            null_values=[""],
        )
        return pa.csv.read_csv(file, convert_options=texts)
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"{file} cannot be read as a table: {' '.join(str(error).split())}") from None


def _as_text(path: PurePath) -> str:
    """A path as a name that Arrow can hold; bytes that are no UTF-8 are escaped."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
