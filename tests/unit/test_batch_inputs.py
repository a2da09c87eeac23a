from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textremove.errors import ConfigError, DatasetError
from textremove.onray.batch_inputs import plan_inputs


def plan(inputs, *, out="out", prompt="ball", split=None):
    return plan_inputs(inputs, out=inputs.parent / out, prompt=prompt, split=split)


def test_folder_takes_photos_below_it_but_not_its_own_output(tmp_path):
    folder = tmp_path / "photos"
    for name in ("b.JPG", "sub/a.png", "phone.heic", "notes.txt", ".hidden.jpg", "out/images/b.JPG"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    found = plan(folder, out="photos/out")
    assert [entry.input_id for entry in found.inputs] == ["b.JPG", "phone.heic", "sub/a.png"]
    assert found.num_other_files == 1
    assert os.fsdecode(found.inputs[2].path) == str(folder / "sub/a.png")


def test_name_that_is_no_utf8_has_a_name_in_the_manifest(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    raw = os.fsencode(folder) + b"/caf\xe9.jpg"
    try:
        open(raw, "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (entry,) = plan(folder).inputs
    assert entry.input_id == "caf\\xe9.jpg"
    assert entry.path == raw


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_brings_prompts_and_may_point_elsewhere(tmp_path, suffix):
    rows = {"path": ["a.jpg", "../far/b.jpg", "c.jpg"], "prompt": ["dog, brown", "cat", None]}
    file = tmp_path / "lists" / f"todo{suffix}"
    file.parent.mkdir()
    if suffix == ".csv":
        file.write_text('path,prompt\na.jpg,"dog, brown"\n../far/b.jpg,cat\nc.jpg,\n')
    else:
        pq.write_table(pa.table(rows), file)
    inputs = plan(file, prompt="").inputs
    assert [entry.prompt for entry in inputs] == ["dog, brown", "cat", ""]
    assert inputs[0].input_id == "a.jpg"
    assert ".." not in inputs[1].input_id
    assert os.fsdecode(inputs[1].path) == str(tmp_path / "far/b.jpg")
    assert plan(file, prompt="bird").inputs[2].prompt == "bird"


@pytest.mark.parametrize(
    ("text", "prompt", "message"),
    [
        ("file,prompt\na.jpg,dog\n", "", "has the columns file, prompt; a table needs path"),
        ("path\na.jpg\n", "", "and prompt unless --prompt"),
        ("path,prompt\na.jpg,dog\n./a.jpg,cat\n", "", "in row 1 and again in row 2"),
        ("path,prompt\n,dog\n", "", "row 1 has no path"),
        ("path,prompt\n", "", "has no rows"),
        ("path,prompt\na.jpg,dog,cat\n", "", "cannot be read as a table"),
        ("", "", "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, prompt, message):
    file = tmp_path / "todo.csv"
    file.write_text(text)
    with pytest.raises(DatasetError, match=message):
        plan(file, prompt=prompt)


def test_inputs_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    for name, changes, kind, message in [
        ("nowhere", {}, ConfigError, "not a folder"),
        ("nowhere.csv", {}, DatasetError, "no table"),
        ("empty", {}, DatasetError, "holds no photos"),
        ("photos", {"prompt": ""}, ConfigError, "say what to remove"),
        ("photos", {"split": "test"}, ConfigError, "--split is for prepared folders"),
    ]:
        with pytest.raises(kind, match=message):
            plan(tmp_path / name, **changes)
