from __future__ import annotations

from collections import Counter

from textremove.pipe.splits import split_of


def test_the_split_of_a_photo_never_changes() -> None:
    # Written down once: another hash or another order of the fractions would move photos between
    # splits of folders prepared before, and test photos into training.
    known = {"COCO/9": "test", "COCO/30": "test", "COCO/49": "train", "COCO/2": "val", "COCO/12": "val"}
    assert {photo: split_of(photo) for photo in known} == known


def test_the_fractions_are_75_15_10() -> None:
    num_photos = 20_000
    counts = Counter(split_of(f"COCO/{number}") for number in range(num_photos))
    for split, fraction in {"train": 0.75, "val": 0.15, "test": 0.10}.items():
        assert abs(counts[split] / num_photos - fraction) < 0.01
