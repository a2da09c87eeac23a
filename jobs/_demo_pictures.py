"""The demo's pictures: what the trained models do to scenes, in this process and over HTTP."""

from __future__ import annotations

import csv
import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from textremove.images import decode_image, decode_mask, encode_image
from textremove.pipe.prepared import prepared_rows
from textremove.pipe.scene_rows import figure_one_scene
from textremove.removal import Remover
from textremove.report.demo import ShownRemoval

BROKEN_PHOTO = "not-a-photo.jpg"
PROMPTS_FILE = "prompts.csv"
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class HttpRemoval:
    """One removal over HTTP.

    Attributes:
        status: The HTTP status.
        shown: The pictures.
        request: The request as typed into a shell.
        answer: Status, time and what was answered, pictures left out.
    """

    status: int
    shown: ShownRemoval
    request: str
    answer: str


def figure_one(remover: Remover) -> list[ShownRemoval]:
    """Asks one picture of two balls for one of them, and for both: the paper's Figure 1 in small."""
    image, masks = figure_one_scene()
    return [_removed(remover, image, prompt) for prompt in masks]


def first_removals(remover: Remover, prepared: Path, count: int) -> list[ShownRemoval]:
    """Removes one object from each of the first scenes of the test split, whatever comes of it."""
    return [
        _removed(remover, decode_image(row["image"]), row["prompt"], decode_image(row["truth"]))
        for row in _distinct_pictures(prepared, count)
    ]


def write_photos(prepared: Path, folder: Path, count: int) -> Path:
    """Writes test pictures as photo files with a table of prompts, and a file among them that is no photo.

    Args:
        prepared: Where the pictures come from.
        folder: Where they go.
        count: How many.

    Returns:
        The table, with the columns path and prompt.
    """
    folder.mkdir(parents=True)
    rows = []
    for number, row in enumerate(_distinct_pictures(prepared, count)):
        format = ("png", "jpeg")[number % 2]
        name = f"scene-{number:03d}.{format}"
        (folder / name).write_bytes(encode_image(decode_image(row["image"]), format=format))
        rows.append((name, row["prompt"]))
    (folder / BROKEN_PHOTO).write_bytes(b"this is text, whatever its name says")
    rows.append((BROKEN_PHOTO, "ball at the left"))
    table = folder / PROMPTS_FILE
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "prompt"), *rows])
    return table


def first_photo(table: Path) -> tuple[Path, str]:
    """The first photo that `write_photos` wrote, and what to ask of it."""
    with table.open(newline="") as file:
        row = next(csv.DictReader(file))
    return table.parent / row["path"], row["prompt"]


def remove_over_http(url: str, image: np.ndarray, prompt: str) -> HttpRemoval:
    """Asks the service for one removal.

    Args:
        url: The service's base URL.
        image: RGB uint8 (height, width, 3).
        prompt: What to remove.

    Returns:
        What came back; of a refusal, the picture as it was sent and an empty mask.
    """
    answer = httpx.post(
        f"{url}/v1/removals",
        files={"image": ("photo.png", encode_image(image), "image/png")},
        data={"prompt": prompt},
        headers={"Accept": "application/json"},
        timeout=_TIMEOUT_SECONDS,
    )
    said: dict[str, Any] = answer.json()
    result, mask, told = image, np.zeros(image.shape[:2], np.uint8), said
    if answer.status_code == httpx.codes.OK:
        result, mask = decode_image(b64decode(said["image"])), decode_mask(b64decode(said["mask"]))
        told = {name: value for name, value in said.items() if name not in ("image", "mask")}
    return HttpRemoval(
        status=answer.status_code,
        shown=ShownRemoval(prompt=prompt, image=image, mask=mask, result=result),
        request=f'curl -F image=@photo.png -F prompt="{prompt}" -H "Accept: application/json" '
        f"{url}/v1/removals",
        answer=f"HTTP {answer.status_code} in {answer.elapsed.total_seconds():.2f} s\n"
        f"{json.dumps(told, indent=2)}",
    )


def _removed(
    remover: Remover, image: np.ndarray, prompt: str, truth: np.ndarray | None = None
) -> ShownRemoval:
    removal = remover.remove(image, prompt)
    return ShownRemoval(prompt=prompt, image=image, mask=removal.mask, result=removal.image, truth=truth)


def _distinct_pictures(prepared: Path, count: int) -> Iterator[dict[str, Any]]:
    """One example of each test photo; a photo can be in the split several times, with other prompts."""
    seen: set[str] = set()
    for row in prepared_rows(prepared, split="test"):
        if len(seen) == count:
            return
        if row["photo_id"] not in seen:
            seen.add(row["photo_id"])
            yield row
