"""Procedural scenes: endless and seeded.

A scene is a textured background with one to five things on it, some overlapping, some casting a
shadow, often with a second thing of the same class elsewhere so that only the place words tell them
apart. `textremove.pipe.scene_rows` makes PIPE rows of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from textremove.pipe.backgrounds import Rng, draw_background
from textremove.pipe.shapes import SHAPES, Palette, draw_shape


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
        photo_format: How pictures are stored: "png" keeps every pixel, "jpeg" is what real photos are.
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
    photo_format: Literal["png", "jpeg"] = "png"


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


def random_palette(rng: Rng, background: np.ndarray) -> Palette:
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
        palette=random_palette(rng, background),
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
        palette = first.palette if rng.random() < 0.5 else random_palette(rng, background)
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
