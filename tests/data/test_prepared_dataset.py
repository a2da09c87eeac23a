"""Checks that a user runs on their own prepared set: `pytest tests/data --dataset DIR`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from textremove.errors import ImageError
from textremove.images import decode_image, decode_mask
from textremove.pipe.prepared import prepared_rows, read_dataset_info
from textremove.pipe.splits import split_of
from textremove.places import PLACES
from textremove.storage import open_store

SHOWN = 5


@dataclass(kw_only=True)
class Findings:
    """What is wrong, as example ids by kind; and what must be seen over the whole set."""

    num_rows: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)
    photos_by_digest: dict[bytes, set[str]] = field(default_factory=dict)
    splits_by_photo: dict[str, set[str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def add(self, kind: str, example_id: str) -> None:
        self.wrong.setdefault(kind, []).append(example_id)

    def of(self, *kinds: str) -> list[str]:
        return [f"{kind}: {example_id}" for kind in kinds for example_id in self.wrong.get(kind, [])][:SHOWN]


@pytest.fixture(scope="module")
def dataset(pytestconfig: pytest.Config) -> str:
    folder = pytestconfig.getoption("--dataset")
    if not folder:
        pytest.skip("say which prepared set to check: --dataset DIR")
    return str(folder)


@pytest.fixture(scope="module")
def findings(dataset: str) -> Findings:
    """One pass over the whole set, a few rows in memory at a time."""
    found = Findings()
    for row in prepared_rows(dataset):
        found.num_rows += 1
        _look_at(row, found)
    return found


def _look_at(row: dict[str, Any], found: Findings) -> None:
    name = row["example_id"]
    if name in found.seen:
        found.add("id twice", name)
    found.seen.add(name)
    found.splits_by_photo.setdefault(row["photo_id"], set()).add(row["split"])
    if split_of(row["photo_id"]) != row["split"]:
        found.add("not in the split of its photo", name)
    found.photos_by_digest.setdefault(hashlib.sha256(row["image"]).digest(), set()).add(row["photo_id"])
    for problem in (*_prompt_problems(row), *_picture_problems(row)):
        found.add(problem, name)


def _prompt_problems(row: dict[str, Any]) -> Iterator[str]:
    what, place, prompt = row["object_class"], row["place"], row["prompt"]
    if prompt != " ".join(prompt.lower().split()):
        yield "prompt not in lower case and single spaces"
    if prompt != (f"{what} at the {place}" if place else what):
        yield "prompt not made of class and place"
    if sum(character.isalnum() for character in what) < 2:
        yield "prompt names nothing"
    if what.startswith(("add ", "a ", "an ", "the ")):
        yield "prompt with its instruction left in"


def _picture_problems(row: dict[str, Any]) -> Iterator[str]:
    size = (row["height"], row["width"])
    for role in ("image", "truth"):
        if row[role] is None:
            continue
        try:
            if decode_image(row[role]).shape != (*size, 3):
                yield f"{role} of another size"
        except ImageError:
            yield f"{role} cannot be decoded"
    try:
        mask = decode_mask(row["mask"])
    except ImageError:
        yield "mask cannot be decoded"
        return
    if mask.shape != size:
        yield "mask of another size"
    if not mask.any():
        yield "mask empty"
    if mask.all():
        yield "mask over the whole photo"


def test_files_are_those_that_were_written(dataset: str) -> None:
    store = open_store(dataset)
    info = read_dataset_info(dataset)
    changed = [
        entry["path"]
        for entry in info["files"]
        if hashlib.sha256(store.read(entry["path"])).hexdigest() != entry["sha256"]
    ]
    assert not changed[:SHOWN]


def test_every_example_is_there_once(dataset: str, findings: Findings) -> None:
    assert findings.num_rows == read_dataset_info(dataset)["examples_kept"]
    assert not findings.of("id twice")


def test_no_photo_leaks_from_one_split_to_another(findings: Findings) -> None:
    assert not findings.of("not in the split of its photo")
    assert not [photo for photo, splits in findings.splits_by_photo.items() if len(splits) > 1][:SHOWN]
    twice = [sorted(photos) for photos in findings.photos_by_digest.values() if len(photos) > 1]
    assert not twice[:SHOWN], "the same photo under two ids"


def test_prompts_are_clean(findings: Findings) -> None:
    assert not findings.of(*(kind for kind in findings.wrong if kind.startswith("prompt")))


def test_places_are_mostly_those_that_models_are_asked_for(dataset: str) -> None:
    places = read_dataset_info(dataset)["places"]
    unknown = {place: count for place, count in places.items() if place and place not in PLACES}
    assert sum(unknown.values()) < 0.05 * max(sum(places.values()), 1), unknown


def test_masks_cover_something_and_not_everything(findings: Findings) -> None:
    assert not findings.of("mask cannot be decoded", "mask of another size", "mask empty")
    assert len(findings.wrong.get("mask over the whole photo", [])) < 0.01 * findings.num_rows


def test_pictures_decode_and_fit_together(findings: Findings) -> None:
    assert not findings.of(*(kind for kind in findings.wrong if kind.startswith(("image", "truth"))))


def test_no_split_is_empty(dataset: str) -> None:
    sizes = {name: split["examples"] for name, split in read_dataset_info(dataset)["splits"].items()}
    assert all(sizes.values()), sizes
