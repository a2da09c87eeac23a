from __future__ import annotations

import os

import pyarrow.parquet as pq
import pytest

from textremove.errors import DatasetError
from textremove.onray.batch_inputs import BatchInput
from textremove.onray.batch_store import BatchStore, output_name, remove_outputs, write_output
from textremove.schema import MANIFEST_SCHEMA


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"photo")
    os.utime(path, (1, 1))
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def entry(path, prompt="ball", name="a.jpg"):
    return BatchInput(input_id=name, prompt=prompt, path=os.fsencode(path))


def row(status="ok", **values):
    output = "images/a.jpg" if status == "ok" else ""
    given = {"input_id": "a.jpg", "prompt": "ball", "status": status, "reason": "", "output": output}
    return dict.fromkeys(MANIFEST_SCHEMA.names) | given | values


def record(out, *rows, settings=None):
    store = BatchStore(out, settings or {"seed": 0})
    write_output(out, "images/a.jpg", b"result")
    store.add(rows)
    return store


def done(out, *entries, settings=None):
    return set(BatchStore(out, settings or {"seed": 0}).done(entries))


def test_rows_hold_until_something_changes(out, photo):
    record(out, row()).flush()
    assert done(out, entry(photo)) == {"a.jpg"}
    assert done(out, entry(photo, prompt="dog")) == set()
    (out / "images/a.jpg").rename(out / "elsewhere")
    assert done(out, entry(photo)) == set()
    (out / "elsewhere").rename(out / "images/a.jpg")
    os.utime(photo)
    assert done(out, entry(photo)) == set()


def test_other_settings_start_from_nothing_and_take_the_manifest_away(out, photo):
    manifest, _ = record(out, row()).finish([entry(photo)])
    assert done(out, entry(photo)) == {"a.jpg"}
    assert done(out, entry(photo), settings={"seed": 1}) == set()
    assert not manifest.exists()
    assert done(out, entry(photo)) == set(), "the pictures are no longer those of seed 0"


def test_errors_are_tried_again_and_the_last_row_counts(out, photo):
    store = record(out, row("error", reason="unreadable"))
    store.flush()
    assert done(out, entry(photo)) == set()
    store.add([row("not_found")])
    manifest, rows = store.finish([entry(photo)])
    assert [r["status"] for r in rows] == ["not_found"]
    assert pq.read_schema(manifest).equals(MANIFEST_SCHEMA)
    assert not (out / "parts").exists()
    assert done(out, entry(photo)) == {"a.jpg"}


def test_no_input_without_a_row(out, photo):
    with pytest.raises(RuntimeError, match="1 inputs came out without a row"):
        record(out, row()).finish([entry(photo), entry(photo, name="b.jpg")])


def test_somebody_elses_folder_is_left_alone(out):
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(DatasetError, match="is not empty and is no batch's output"):
        BatchStore(out, {})


@pytest.mark.parametrize(
    ("input_id", "format", "expected"),
    [
        ("sub/a.JPG", "JPEG", "images/sub/a.JPG"),
        ("scan.tiff", "PNG", "images/scan.tiff.png"),
        ("coco/1/2", "JPEG", "images/coco/1/2.jpg"),
        ("../../etc/a.png", "PNG", "images/etc/a.png"),
        ("/etc/a.png", "PNG", "images/etc/a.png"),
    ],
)
def test_outputs_keep_their_names_and_stay_inside(input_id, format, expected):
    assert output_name(input_id, format) == expected


def test_results_of_earlier_settings_go_when_there_is_none_now(out):
    for name in ("images/x.jpg", "images/x.png", "images/y.png"):
        write_output(out, name, b"old")
    remove_outputs(out, "x", but="images/x.png")
    assert sorted(p.name for p in (out / "images").iterdir()) == ["x.png", "y.png"]
