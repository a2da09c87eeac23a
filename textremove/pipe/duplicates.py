"""The same photo under two ids: it would be in two splits, and a model would be asked what it has seen."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

REASON = "photo_duplicate"


def find_duplicates(examples: pa.Table) -> pa.Array:
    """Finds the examples of photos that are, byte for byte, a photo of another id as well.

    Of several ids the first in alphabetical order is kept, so the answer does not depend on the order.

    Args:
        examples: Rows of JOURNAL_SCHEMA.

    Returns:
        Their example ids, sorted.
    """
    copies = examples.group_by("photo_digest").aggregate([("photo_id", "min"), ("photo_id", "max")])
    copies = copies.filter(pc.not_equal(copies["photo_id_min"], copies["photo_id_max"]))
    if not copies.num_rows:
        return pa.array([], pa.string())
    kept = dict(zip(copies["photo_digest"].to_pylist(), copies["photo_id_min"].to_pylist(), strict=True))
    suspects = examples.filter(
        pc.is_in(examples["photo_digest"], value_set=pa.array(list(kept), pa.binary(16)))
    )
    found = [
        row["example_id"] for row in suspects.to_pylist() if row["photo_id"] != kept[row["photo_digest"]]
    ]
    return pa.array(sorted(found), pa.string())
