"""Rows in PIPE's own format from procedural scenes, and shards of them in the hub's layout.

Each scene yields one row per thing (or group) that can be asked for: the picture with it, the picture
without it, the mask of what differs, and PIPE's instruction columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from textremove.images import encode_image
from textremove.pipe.backgrounds import Rng, draw_background
from textremove.pipe.scenes import Scene, SceneConfig, Thing, random_palette, random_scene
from textremove.pipe.shapes import SHAPES
from textremove.places import place_of_box
from textremove.schema import PIPE_MASKS_SCHEMA, PIPE_SCHEMA

DATASET_NAME = "SCENES"
"""The `target_img_dataset` of procedural rows."""

_VISIBLE_LEVELS = 2.0  # a pixel counts as covered when the picture changes by this many grey levels
_MIN_VISIBLE_FRACTION = 0.5  # less of a thing than this in sight, and it is not asked for


def _place(things: list[Thing]) -> str:
    bounds = np.array([thing.bounds for thing in things])
    box = (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    return place_of_box(box, height=1, width=1)


def scene_targets(scene: Scene) -> list[tuple[frozenset[int], str, str]]:
    """What can be asked for in a scene without ambiguity.

    Returns:
        (numbers of the things, class word, place) each. A singular names the only thing of its class at
        that place; a plural names a group that no other thing of its class stands near.
    """
    targets: list[tuple[frozenset[int], str, str]] = []
    for number, thing in enumerate(scene.things):
        place = _place([thing])
        twins = [t for n, t in enumerate(scene.things) if n != number and t.name == thing.name]
        if all(_place([twin]) != place for twin in twins):
            targets.append((frozenset([number]), thing.name, place))
    members = [n for n, thing in enumerate(scene.things) if thing.group >= 0]
    if members:
        group = [scene.things[n] for n in members]
        strays = [t for t in scene.things if t.group < 0 and t.name == group[0].name]
        near = max(thing.extent for thing in group) * 1.6
        if all(min(np.hypot(s.x - t.x, s.y - t.y) for t in group) > near for s in strays):
            targets.append((frozenset(members), SHAPES[group[0].name].plural, _place(group)))
    return targets


def remove_from_scene(scene: Scene, numbers: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws the scene without some things.

    Returns:
        (truth, mask): RGB uint8 (side, side, 3), and uint8 (side, side) with 255 wherever the picture
        changed. Shadows go with their things. Outside the mask the truth equals the picture exactly.
    """
    picture, truth = scene.render(), scene.render(hidden=numbers)
    changed = np.abs(picture.astype(np.int16) - truth).max(axis=2)
    mask = (changed >= _VISIBLE_LEVELS).astype(np.uint8) * 255
    truth[mask == 0] = picture[mask == 0]
    return truth, mask


def _is_visible(scene: Scene, numbers: frozenset[int], mask: np.ndarray) -> bool:
    """Whether enough of the things is in sight, not behind others or outside the picture."""
    everything = frozenset(range(len(scene.things)))
    alone = scene.render(hidden=everything - numbers).astype(np.int16)
    whole = np.abs(alone - scene.render(hidden=everything)).max(axis=2) >= _VISIBLE_LEVELS
    return int(np.count_nonzero(mask)) >= _MIN_VISIBLE_FRACTION * max(int(np.count_nonzero(whole)), 64)


def _encode(array: np.ndarray, photo_format: str = "png") -> dict[str, object]:
    if photo_format == "jpeg":
        return {"bytes": encode_image(array, format="jpeg"), "path": None}
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=1)  # drawn by the thousand: fast, not small
    return {"bytes": buffer.getvalue(), "path": None}


def _article(word: str, plural: bool) -> str:
    return "" if plural else ("an " if word[0] in "aeiou" else "a ")


def scene_rows(
    seed: int, num_scenes: int, config: SceneConfig = SceneConfig(), *, start: int = 0
) -> Iterator[dict[str, object]]:
    """Yields PIPE rows of procedural scenes.

    Args:
        seed: Scenes of different seeds have nothing in common. Scene k of a seed is always the same.
        num_scenes: How many scenes; each yields one to `config.max_rows` rows.
        config: What they look like.
        start: Number of the first scene, so that parts can be made side by side.

    Yields:
        Dicts with PIPE's columns and, under "mask", that of PIPE_Masks.
    """
    for index in range(start, start + num_scenes):
        attempt = 0
        rows: list[dict[str, object]] = []
        while not rows:  # now and then nothing in a scene can be asked for unambiguously
            rng = np.random.default_rng([seed, index, attempt])
            rows = _rows_of_scene(rng, random_scene(rng, config), f"{seed}-{index:07d}", config)
            attempt += 1
        yield from rows


def _rows_of_scene(rng: Rng, scene: Scene, scene_id: str, config: SceneConfig) -> list[dict[str, object]]:
    targets = scene_targets(scene)
    picture: dict[str, object] | None = None
    rows: list[dict[str, object]] = []
    for which in rng.permutation(len(targets))[: config.max_rows]:
        numbers, word, place = targets[which]
        truth, mask = remove_from_scene(scene, numbers)
        if not _is_visible(scene, numbers, mask):
            continue
        picture = picture or _encode(scene.render(), config.photo_format)
        add = "Add" if rng.random() < 0.3 else "add"  # PIPE's casing is mixed
        what = f"{_article(word, len(numbers) > 1)}{word}"
        rows.append(
            {
                "source_img": _encode(truth, config.photo_format),
                "target_img": picture,
                "Instruction_VLM-LLM": f"{add} {what} to the picture, at the {place}",
                "Instruction_Class": f"{add} {what}",
                "Instruction_Ref_Dataset": "",
                "object_location": f" at the {place}",
                "target_img_dataset": DATASET_NAME,
                "img_id": scene_id,
                "ann_id": f"{scene_id}-{which}",
                "mask": _encode(mask),
            }
        )
    return rows


def write_scene_shards(
    out: Path,
    *,
    seed: int,
    num_scenes: int,
    rows_per_shard: int = 500,
    config: SceneConfig = SceneConfig(),
) -> int:
    """Writes procedural rows as parquet shards in the hub's layout.

    Args:
        out: Gets ``PIPE/data/*.parquet`` and ``PIPE_Masks/data/*.parquet``.
        seed: See `scene_rows`.
        num_scenes: See `scene_rows`.
        rows_per_shard: Rows in one file.
        config: What the scenes look like.

    Returns:
        How many rows were written.
    """
    folders = {"PIPE": PIPE_SCHEMA, "PIPE_Masks": PIPE_MASKS_SCHEMA}
    for name in folders:
        (out / name / "data").mkdir(parents=True, exist_ok=True)
    pending: list[dict[str, object]] = []
    shard = total = 0

    def flush() -> None:
        nonlocal shard
        for name, schema in folders.items():
            rows = [{column: row[column] for column in schema.names} for row in pending]
            pq.write_table(
                pa.Table.from_pylist(rows, schema=schema), out / name / "data" / f"train-{shard:05d}.parquet"
            )
        shard += 1
        pending.clear()

    for row in scene_rows(seed, num_scenes, config):
        pending.append(row)
        total += 1
        if len(pending) == rows_per_shard:
            flush()
    if pending:
        flush()
    return total


def figure_one_scene(*, size: int = 128, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The picture of the paper's Figure 1 in small: two balls, nameable apart and together.

    Returns:
        (picture, masks): RGB uint8 (size, size, 3), and the true mask, uint8 (size, size), of each of the
        prompts "ball at the center left" and "balls at the center".
    """
    rng = np.random.default_rng([seed, 1])
    background = draw_background(rng, size, grain=2.0)
    palettes = [random_palette(rng, background) for _ in range(2)]
    things = tuple(
        Thing(name="ball", x=x, y=0.5, extent=0.24, aspect=1.0, palette=palette, shadow=True, group=0)
        for x, palette in zip((0.29, 0.68), palettes, strict=True)
    )
    scene = Scene(background=background, things=things)
    masks = {
        "ball at the center left": remove_from_scene(scene, frozenset([0]))[1],
        "balls at the center": remove_from_scene(scene, frozenset([0, 1]))[1],
    }
    return scene.render(), masks
