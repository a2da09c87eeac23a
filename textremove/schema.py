"""Column names, Arrow schemas and the image conventions, written once.

Conventions that hold at every boundary of this project:

* An **image** is RGB, ``uint8``, shape ``(height, width, 3)``, EXIF rotation already applied.
* A **mask** is ``uint8``, shape ``(height, width)``; 255 means *remove*, 0 means *keep*.
* A **box** is ``(left, top, right, bottom)`` in pixels, right and bottom exclusive.
* A **prompt** is a refined phrase, ``"<what> at the <place>"``, lower case: ``"person at the left"``.

PIPE is an *adding* dataset, so its roles are swapped for removal: ``target_img`` (with the object)
is the input, ``source_img`` (without it) is the truth. Columns as published on the hub in
``paint-by-inpaint/PIPE`` and ``paint-by-inpaint/PIPE_Masks``.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1
"""Version of the prepared-example and manifest schemas; saved beside data and models."""

KEY_COLUMNS = ("target_img_dataset", "img_id", "ann_id")
"""What joins PIPE to PIPE_Masks. Never join by position: the two tables are ordered differently."""

PHOTO_COLUMNS = ("target_img_dataset", "img_id")
"""What names a photo. One photo carries several objects, so splits are made by photo."""

SPLITS = ("train", "val", "test")

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

PIPE_SCHEMA = pa.schema(
    [
        ("source_img", _IMAGE),
        ("target_img", _IMAGE),
        ("Instruction_VLM-LLM", pa.string()),
        ("Instruction_Class", pa.string()),
        ("Instruction_Ref_Dataset", pa.string()),
        ("object_location", pa.string()),
        *((name, pa.string()) for name in KEY_COLUMNS),
    ]
)

PIPE_MASKS_SCHEMA = pa.schema([("mask", _IMAGE), *((name, pa.string()) for name in KEY_COLUMNS)])

EXAMPLE_SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),  # "<dataset>/<img_id>/<ann_id>", unique
        ("photo_id", pa.string()),  # "<dataset>/<img_id>", what the split is decided by
        ("split", pa.string()),  # one of SPLITS
        ("prompt", pa.string()),  # refined
        ("object_class", pa.string()),  # "person"
        ("place", pa.string()),  # "top left", or "" when the row names none
        ("image", pa.binary()),  # encoded input photo, with the object
        ("mask", pa.binary()),  # PNG, one channel, 0 or 255, same size as image
        ("truth", pa.binary()),  # encoded photo without the object, same size as image; null when unknown
        ("height", pa.int32()),  # pixels, of all three
        ("width", pa.int32()),
    ]
)
"""One prepared example. Lossy input stays as it came unless it must be resized."""

JOURNAL_SCHEMA = pa.schema(
    [
        *(EXAMPLE_SCHEMA.field(name) for name in ("example_id", "photo_id", "object_class", "place")),
        ("photo_digest", pa.binary(16)),  # first half of the SHA-256 of the photo's file
        ("file", pa.string()),  # the part file that holds it
    ]
)
"""What preparing remembers of each example while it is not done; its schema metadata holds the counts."""

MANIFEST_SCHEMA = pa.schema(
    [
        ("input_id", pa.string()),  # path relative to the input folder, or example_id
        ("prompt", pa.string()),
        ("status", pa.string()),  # "ok", "not_found" or "error"
        ("reason", pa.string()),  # "" when ok; a named reason otherwise
        ("message", pa.string()),  # the one line for a person; "" when ok
        ("output", pa.string()),  # path relative to the output folder, "" when none
        ("score", pa.float32()),  # segmenter confidence in [0, 1]; null when not segmented
        ("mask_fraction", pa.float32()),  # removed area over image area; null when no mask
        ("seed", pa.int64()),  # of the first filling; the next ones have the numbers that follow
        ("verified", pa.bool_()),  # no longer found where it was; null when nobody looked
        ("verify_score", pa.float32()),  # confidence in [0, 1] with which it still is; null likewise
        ("attempts", pa.int32()),  # how often it was filled; null when never
        ("kept_seed", pa.int64()),  # of the filling that was kept; null likewise
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("input_sha256", pa.string()),
        ("output_sha256", pa.string()),
        ("segment_seconds", pa.float32()),
        ("inpaint_seconds", pa.float32()),
        ("verify_seconds", pa.float32()),
    ]
)
"""One row per input of a batch, whatever became of it."""
