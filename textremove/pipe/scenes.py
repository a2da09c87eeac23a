"""Procedural scenes: an endless, seeded source of rows in PIPE's own format.

A scene is a textured background with one to five things on it, some overlapping, some casting a
shadow, often with a second thing of the same class elsewhere so that only the place words tell them
apart. Each scene yields one row per thing (or group) that can be asked for: the picture with it, the
picture without it, the mask of what differs, and PIPE's instruction columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from textremove.pipe.backgrounds import Rng, draw_background
from textremove.pipe.places import place_of_box
from textremove.pipe.shapes import SHAPES, Palette, draw_shape
from textremove.schema import PIPE_MASKS_SCHEMA, PIPE_SCHEMA

DATASET_NAME = "SCENES"
"""The `target_img_dataset` of procedural rows."""

_VISIBLE_LEVELS = 2.0  # a pixel counts as covered when the picture changes by this many grey levels
_MIN_VISIBLE_FRACTION = 0.5  # less of a thing than this in sight, and it is not asked for


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What scenes look like.

    Attributes:
        size: Side of the square pictures, in pixels.
        min_extent: Smallest thing, in fractions of the side (geometric mean of width and height).
        max_extent: Largest thing. Sizes between are log-uniform, as small things are many.
        max_things: At most this many things in a picture.
        twin_probability: How often a second thing of the same class stands elsewhere.
        group_probability: How often a group is there to be asked for in the plural.
        shadow_probability: How often a thing casts a shadow.
        grain: Largest standard deviation of the background's grain, in grey levels of 255.
        max_rows: At most this many rows from one scene.
    """

    size: int = 128
    min_extent: float = 0.13
    max_extent: float = 0.5
    max_things: int = 5
    twin_probability: float = 0.5
    group_probability: float = 0.25
    shadow_probability: float = 0.4
    grain: float = 3.0
    max_rows: int = 3


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing in a scene; lengths are fractions of the picture's side.

    Attributes:
        name: A key of SHAPES.
        x: Of its centre.
        y: Of its centre.
        extent: Geometric mean of its width and height.
        aspect: Width over height.
        palette: Its colours.
        angle: Rotation in degrees.
        mirror: Whether it is flipped left to right.
        shadow: Whether it casts one.
        group: Things of the same group number, 0 or more, are asked for together.
    """

    name: str
    x: float
    y: float
    extent: float
    aspect: float
    palette: Palette
    angle: float = 0.0
    mirror: bool = False
    shadow: bool = False
    group: int = -1

    @property
    def size(self) -> tuple[float, float]:
        """(width, height)."""
        return self.extent * self.aspect**0.5, self.extent / self.aspect**0.5

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom)."""
        width, height = self.size
        return self.x - width / 2, self.y - height / 2, self.x + width / 2, self.y + height / 2


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A drawn part of a thing: RGBA float32 (height, width, 4) and where its corner lies, in pixels."""

    rgba: np.ndarray
    left: int
    top: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A background and the things on it, back to front."""

    background: np.ndarray
    things: tuple[Thing, ...]

    @cached_property
    def layers(self) -> list[list[Layer]]:
        """What each thing is painted with. Drawn once: a scene is rendered several times over."""
        return [_draw_layers(thing, self.background.shape[0]) for thing in self.things]

    def render(self, hidden: frozenset[int] = frozenset()) -> np.ndarray:
        """Draws the scene without the things whose numbers are in `hidden`: RGB uint8 (side, side, 3)."""
        image = self.background.copy()
        for number, layers in enumerate(self.layers):
            if number not in hidden:
                for layer in layers:
                    _blend(image, layer)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _blend(image: np.ndarray, layer: Layer) -> None:
    """Lays a layer over part of the image, in place; what lies outside the image is cut off."""
    side, (height, width) = image.shape[0], layer.rgba.shape[:2]
    y0, y1 = max(layer.top, 0), min(layer.top + height, side)
    x0, x1 = max(layer.left, 0), min(layer.left + width, side)
    if y0 >= y1 or x0 >= x1:
        return
    part = layer.rgba[y0 - layer.top : y1 - layer.top, x0 - layer.left : x1 - layer.left]
    alpha = part[..., 3:]
    image[y0:y1, x0:x1] = image[y0:y1, x0:x1] * (1 - alpha) + part[..., :3] * alpha


def _shadow_layer(thing_width: int) -> np.ndarray:
    """A soft dark ellipse, as under a standing thing: RGBA float32 (width / 2, width * 5 / 4, 4)."""
    width, height = thing_width + thing_width // 4, max(thing_width // 2, 4)
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot((x - width / 2) / (width / 2), (y - height / 2) / (height / 2))
    hard = Image.fromarray(((distance < 0.75) * 255).astype(np.uint8))
    soft = np.asarray(hard.filter(ImageFilter.GaussianBlur(height / 8)), np.float32) / 255 * 0.45
    soft[soft < 0.03] = 0  # an endless faint tail would stretch the mask
    return np.concatenate([np.zeros((height, width, 3), np.float32), soft[..., None]], axis=2)


def _draw_layers(thing: Thing, canvas_side: int) -> list[Layer]:
    width, height = (max(round(length * canvas_side), 6) for length in thing.size)
    left, top = round(thing.x * canvas_side - width / 2), round(thing.y * canvas_side - height / 2)
    layers = []
    if thing.shadow:
        shadow = _shadow_layer(width)
        shadow_height, shadow_width = shadow.shape[:2]
        shadow_left = left - (shadow_width - width) // 2
        layers.append(
            Layer(rgba=shadow, left=shadow_left, top=top + height - shadow_height // 2 - height // 12)
        )
    drawing = draw_shape(
        thing.name, thing.palette, width=width, height=height, angle=thing.angle, mirror=thing.mirror
    )
    return [*layers, Layer(rgba=drawing, left=left, top=top)]


def _overlap(a: Thing, b: Thing) -> float:
    """Shared area of two things' bounds over the smaller one's area."""
    (l1, t1, r1, b1), (l2, t2, r2, b2) = a.bounds, b.bounds
    shared = max(0.0, min(r1, r2) - max(l1, l2)) * max(0.0, min(b1, b2) - max(t1, t2))
    return shared / min(a.extent, b.extent) ** 2


def _random_palette(rng: Rng, background: np.ndarray) -> Palette:
    """Three colours, the first standing out from the background's mean."""
    mean = background.mean(axis=(0, 1))
    colors = [rng.integers(20, 250, 3) for _ in range(3)]
    while np.abs(colors[0] - mean).max() < 60:
        colors[0] = rng.integers(20, 250, 3)
    main, second, third = (tuple(int(c) for c in color) for color in colors)
    return Palette(main=main, second=second, third=third)  # type: ignore[arg-type]


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _random_center(rng: Rng, length: float) -> float:
    """Where along an axis a thing may stand: wholly in the picture, but for a fiftieth of the side."""
    margin = min(length / 2 - 0.02, 0.5)
    return float(rng.uniform(margin, 1 - margin))


def _random_thing(rng: Rng, config: SceneConfig, background: np.ndarray, name: str | None = None) -> Thing:
    name = name or str(rng.choice(list(SHAPES)))
    shape = SHAPES[name]
    thing = Thing(
        name=name,
        x=0.5,
        y=0.5,
        extent=_log_uniform(rng, config.min_extent, config.max_extent),
        aspect=shape.aspect * _log_uniform(rng, 1 / shape.stretch, shape.stretch),
        palette=_random_palette(rng, background),
        angle=float(rng.uniform(-15, 15)),
        mirror=bool(rng.random() < 0.5),
        shadow=bool(rng.random() < config.shadow_probability),
    )
    width, height = thing.size
    return replace(thing, x=_random_center(rng, width), y=_random_center(rng, height))


def _random_group(rng: Rng, config: SceneConfig, background: np.ndarray) -> list[Thing]:
    """Two or three things of one class side by side, of like size, asked for in the plural."""
    first = replace(_random_thing(rng, config, background), group=0)
    first = replace(first, extent=min(first.extent, 0.28))
    across = bool(rng.random() < 0.75)
    (along_length, beside_length) = first.size if across else first.size[::-1]
    count = int(rng.integers(2, 4))
    step = along_length * rng.uniform(1.05, 1.7)
    if step * (count - 1) + along_length > 1:
        count, step = 2, along_length * 1.1
    reach = (step * (count - 1) + along_length) / 2
    along, beside = rng.uniform(reach, 1 - reach), _random_center(rng, beside_length)
    things = []
    for k in range(count):
        a = float(along + (k - (count - 1) / 2) * step)
        b = float(beside + rng.uniform(-0.25, 0.25) * beside_length)
        x, y = (a, b) if across else (b, a)
        palette = first.palette if rng.random() < 0.5 else _random_palette(rng, background)
        size = float(first.extent * rng.uniform(0.88, 1.0))
        things.append(replace(first, x=x, y=y, extent=size, palette=palette, mirror=bool(rng.random() < 0.5)))
    return things


def random_scene(rng: Rng, config: SceneConfig) -> Scene:
    """Makes up a scene. The same generator state gives the same scene."""
    background = draw_background(rng, config.size, grain=config.grain)
    things: list[Thing] = []
    if rng.random() < config.group_probability:
        things += _random_group(rng, config, background)
    wanted = int(rng.integers(1, config.max_things + 1))
    for _ in range(24):  # tries, not things: a crowded scene stays as it is
        if len(things) >= wanted:
            break
        twin = things and rng.random() < config.twin_probability
        name = things[rng.integers(len(things))].name if twin else None
        thing = _random_thing(rng, config, background, name)
        if all(_overlap(thing, other) < (0.05 if other.name == thing.name else 0.3) for other in things):
            things.append(thing)
    order = rng.permutation(len(things))
    return Scene(background=background, things=tuple(things[i] for i in order))


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


def _encode(array: np.ndarray) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=1)
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
            rows = _rows_of_scene(rng, random_scene(rng, config), f"{seed}-{index:07d}", config.max_rows)
            attempt += 1
        yield from rows


def _rows_of_scene(rng: Rng, scene: Scene, scene_id: str, max_rows: int) -> list[dict[str, object]]:
    targets = scene_targets(scene)
    picture: dict[str, object] | None = None
    rows: list[dict[str, object]] = []
    for which in rng.permutation(len(targets))[:max_rows]:
        numbers, word, place = targets[which]
        truth, mask = remove_from_scene(scene, numbers)
        if not _is_visible(scene, numbers, mask):
            continue
        picture = picture or _encode(scene.render())
        add = "Add" if rng.random() < 0.3 else "add"  # PIPE's casing is mixed
        what = f"{_article(word, len(numbers) > 1)}{word}"
        rows.append(
            {
                "source_img": _encode(truth),
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
    palettes = [_random_palette(rng, background) for _ in range(2)]
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
