"""Splitting by photo, the same on every machine and unchanged as rows are added."""

from __future__ import annotations

import hashlib

TRAIN_FRACTION = 0.75
VAL_FRACTION = 0.15
"""Fractions of photos, as in paper section 4.1; the rest, one tenth, is the test split."""

_HASH_RANGE = 2**64


def split_of(photo_id: str) -> str:
    """Names the split of a photo: "train", "val" or "test".

    All objects of one photo land in one split, so nothing a model has seen is asked of it again.

    Args:
        photo_id: "<dataset>/<img_id>".
    """
    digest = hashlib.sha256(photo_id.encode()).digest()
    position = int.from_bytes(digest[:8], "big") / _HASH_RANGE
    if position < TRAIN_FRACTION:
        return "train"
    if position < TRAIN_FRACTION + VAL_FRACTION:
        return "val"
    return "test"
