"""The checks that users run on their own segmenter see what a bad one does wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from textremove.images import decode_mask
from textremove.pipe.prompts import refine_prompt
from textremove.pipe.scene_rows import scene_rows
from textremove.segment.location_prior import LocationPriorSegmenter

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_model_that_never_looks_at_the_photo_fails(tmp_path: Path) -> None:
    rows = (
        (
            refine_prompt(str(row["Instruction_Class"]), str(row["object_location"])).prompt,
            decode_mask(row["mask"]["bytes"]),  # type: ignore[index]
        )
        for row in scene_rows(3, 100)
    )
    LocationPriorSegmenter.fit(rows).save_pretrained(tmp_path / "prior")
    command = [sys.executable, "-m", "pytest", "-q", "tests/model", "--model", str(tmp_path / "prior")]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"], cwd=REPO, capture_output=True, text=True, check=False
    )
    failed = {
        line.split("::")[1].split()[0] for line in done.stdout.splitlines() if line.startswith("FAILED")
    }
    # It passes the rest by its place words, which tell one ball from both in the figure, and left from right.
    assert failed == {
        "test_what_is_there_is_found_and_where_it_is",
        "test_what_was_removed_is_not_found",
        "test_a_class_that_is_not_in_the_photo_is_not_found",
    }, done.stdout
    assert "wrong: 23-0000000-" in done.stdout  # by name
