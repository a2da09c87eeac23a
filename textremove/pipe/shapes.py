"""The things procedural scenes are made of: simple shapes and compound ones, drawn at any size.

Every shape is drawn into a unit square (x right, y down, 0 to 1) by a function that takes a `Pen` and
a palette. Compound things are made of parts in different colours, so that one flat colour does not
give the object away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]

_SUPERSAMPLE = 3  # drawn this many times larger, then averaged down: PIL draws without anti-aliasing


class Pen:
    """Draws in unit coordinates on an RGBA canvas."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.canvas = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.canvas)

    def _scale(self, points: Sequence[Point]) -> list[Point]:
        return [(x * (self.width - 1), y * (self.height - 1)) for x, y in points]

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        self._draw.polygon(self._scale(points), fill=(*color, 255))

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        (p0, p1) = self._scale([(x0, y0), (x1, y1)])
        self._draw.ellipse([p0, p1], fill=(*color, 255))

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)

    def erase(self, x0: float, y0: float, x1: float, y1: float) -> None:
        (p0, p1) = self._scale([(x0, y0), (x1, y1)])
        self._draw.ellipse([p0, p1], fill=(0, 0, 0, 0))


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours of one thing: three unrelated ones, each with a darker and a lighter companion."""

    main: Color
    second: Color
    third: Color

    @staticmethod
    def shade(color: Color, factor: float) -> Color:
        """Darkens (factor below 1) or lightens (above 1) a colour."""
        if factor <= 1:
            return tuple(int(c * factor) for c in color)  # type: ignore[return-value]
        return tuple(int(c + (255 - c) * (factor - 1)) for c in color)  # type: ignore[return-value]


def _ball(pen: Pen, p: Palette) -> None:
    pen.ellipse(0.02, 0.02, 0.98, 0.98, p.shade(p.main, 0.75))
    pen.ellipse(0.06, 0.04, 0.9, 0.88, p.main)
    pen.ellipse(0.2, 0.14, 0.56, 0.48, p.shade(p.main, 1.45))


def _star(pen: Pen, p: Palette) -> None:
    points = [
        (0.5 + r * math.sin(k * math.pi / 5), 0.53 - r * math.cos(k * math.pi / 5))
        for k in range(10)
        for r in [0.5 if k % 2 == 0 else 0.21]
    ]
    pen.polygon(points, p.main)


def _box(pen: Pen, p: Palette) -> None:
    pen.rectangle(0.04, 0.22, 0.76, 0.96, p.main)
    pen.polygon([(0.04, 0.22), (0.26, 0.04), (0.96, 0.04), (0.76, 0.22)], p.shade(p.main, 1.4))
    pen.polygon([(0.76, 0.22), (0.96, 0.04), (0.96, 0.74), (0.76, 0.96)], p.shade(p.main, 0.65))


def _ring(pen: Pen, p: Palette) -> None:
    pen.ellipse(0.02, 0.02, 0.98, 0.98, p.main)
    pen.ellipse(0.08, 0.06, 0.9, 0.88, p.shade(p.main, 1.25))
    pen.ellipse(0.14, 0.14, 0.86, 0.86, p.main)
    pen.erase(0.27, 0.27, 0.73, 0.73)


def _heart(pen: Pen, p: Palette) -> None:
    points = []
    for k in range(60):
        t = 2 * math.pi * k / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((0.5 + x / 33, 0.46 - y / 33))
    pen.polygon(points, p.main)
    pen.ellipse(0.2, 0.16, 0.38, 0.34, p.shade(p.main, 1.5))


def _cross(pen: Pen, p: Palette) -> None:
    pen.rectangle(0.34, 0.03, 0.66, 0.97, p.main)
    pen.rectangle(0.03, 0.34, 0.97, 0.66, p.main)
    pen.rectangle(0.42, 0.42, 0.58, 0.58, p.shade(p.main, 0.7))


def _person(pen: Pen, p: Palette) -> None:
    skin = [(236, 200, 170), (198, 140, 100), (120, 78, 52)][sum(p.third) % 3]
    pen.rectangle(0.36, 0.58, 0.48, 0.97, p.second)  # legs
    pen.rectangle(0.52, 0.58, 0.64, 0.97, p.second)
    pen.polygon([(0.33, 0.26), (0.67, 0.26), (0.82, 0.56), (0.72, 0.6), (0.64, 0.42), (0.64, 0.62),
                 (0.36, 0.62), (0.36, 0.42), (0.28, 0.6), (0.18, 0.56)], p.main)  # fmt: skip
    pen.ellipse(0.38, 0.02, 0.62, 0.28, skin)
    pen.polygon([(0.38, 0.13), (0.42, 0.03), (0.58, 0.03), (0.62, 0.13)], p.shade(p.third, 0.4))


def _tree(pen: Pen, p: Palette) -> None:
    green = (30 + p.second[0] // 5, 90 + p.second[1] // 3, 30 + p.second[2] // 6)
    pen.rectangle(0.43, 0.62, 0.57, 0.98, (104, 70, 42))
    pen.ellipse(0.12, 0.2, 0.88, 0.74, p.shade(green, 0.8))
    pen.ellipse(0.2, 0.02, 0.8, 0.52, green)
    pen.ellipse(0.3, 0.08, 0.6, 0.34, p.shade(green, 1.2))


def _house(pen: Pen, p: Palette) -> None:
    pen.rectangle(0.12, 0.42, 0.88, 0.97, p.main)
    pen.polygon([(0.02, 0.44), (0.5, 0.03), (0.98, 0.44)], p.second)
    pen.rectangle(0.42, 0.66, 0.6, 0.97, p.shade(p.third, 0.6))
    pen.rectangle(0.2, 0.52, 0.34, 0.66, (214, 232, 240))
    pen.rectangle(0.68, 0.52, 0.82, 0.66, (214, 232, 240))


def _car(pen: Pen, p: Palette) -> None:
    pen.polygon([(0.2, 0.5), (0.32, 0.26), (0.68, 0.26), (0.84, 0.5)], p.shade(p.main, 0.85))
    pen.polygon([(0.27, 0.49), (0.36, 0.31), (0.48, 0.31), (0.48, 0.49)], (206, 228, 240))
    pen.polygon([(0.52, 0.49), (0.52, 0.31), (0.65, 0.31), (0.75, 0.49)], (206, 228, 240))
    pen.polygon([(0.03, 0.52), (0.16, 0.47), (0.86, 0.47), (0.97, 0.56), (0.97, 0.74), (0.03, 0.74)], p.main)
    for x in (0.24, 0.74):
        pen.ellipse(x - 0.12, 0.62, x + 0.12, 0.86, (28, 28, 32))
        pen.ellipse(x - 0.05, 0.69, x + 0.05, 0.79, (180, 180, 186))


def _flower(pen: Pen, p: Palette) -> None:
    pen.rectangle(0.47, 0.5, 0.53, 0.98, (46, 120, 50))
    pen.polygon([(0.5, 0.84), (0.74, 0.66), (0.68, 0.84)], (58, 140, 60))
    for k in range(6):
        x, y = 0.5 + 0.2 * math.cos(k * math.pi / 3), 0.32 + 0.2 * math.sin(k * math.pi / 3)
        pen.ellipse(x - 0.14, y - 0.14, x + 0.14, y + 0.14, p.main)
    pen.ellipse(0.39, 0.21, 0.61, 0.43, p.second)


def _fish(pen: Pen, p: Palette) -> None:
    pen.polygon([(0.66, 0.5), (0.98, 0.24), (0.92, 0.5), (0.98, 0.76)], p.second)
    pen.polygon([(0.36, 0.3), (0.6, 0.12), (0.66, 0.36)], p.second)
    pen.ellipse(0.02, 0.24, 0.8, 0.76, p.main)
    pen.rectangle(0.44, 0.28, 0.52, 0.72, p.shade(p.second, 1.2))
    pen.ellipse(0.14, 0.38, 0.26, 0.5, (250, 250, 250))
    pen.ellipse(0.17, 0.41, 0.23, 0.47, (12, 12, 12))


def _boat(pen: Pen, p: Palette) -> None:
    pen.rectangle(0.48, 0.06, 0.53, 0.7, (96, 66, 40))
    pen.polygon([(0.46, 0.08), (0.46, 0.62), (0.1, 0.62)], p.main)
    pen.polygon([(0.56, 0.2), (0.56, 0.62), (0.86, 0.62)], p.shade(p.main, 1.4))
    pen.polygon([(0.02, 0.68), (0.98, 0.68), (0.8, 0.96), (0.2, 0.96)], p.second)


def _mushroom(pen: Pen, p: Palette) -> None:
    pen.rectangle(0.38, 0.5, 0.62, 0.97, (236, 226, 204))
    pen.polygon(
        [(0.5 + 0.48 * math.cos(a), 0.56 - 0.52 * math.sin(a)) for a in np.linspace(0, math.pi, 24)], p.main
    )
    for x, y, r in ((0.32, 0.34, 0.08), (0.58, 0.22, 0.09), (0.76, 0.42, 0.07)):
        pen.ellipse(x - r, y - r, x + r, y + r, p.shade(p.main, 1.75))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A class of thing.

    Attributes:
        plural: Its plural; its word is its key in SHAPES.
        draw: Draws it into the unit square.
        compound: Whether it has parts in different colours.
        aspect: Natural width over height of its square.
        stretch: Largest factor by which the aspect varies, up or down.
    """

    plural: str
    draw: Callable[[Pen, Palette], None]
    compound: bool = False
    aspect: float = 1.0
    stretch: float = 1.35


SHAPES: dict[str, Shape] = {
    "ball": Shape(plural="balls", draw=_ball, stretch=1.05),
    "star": Shape(plural="stars", draw=_star),
    "box": Shape(plural="boxes", draw=_box),
    "ring": Shape(plural="rings", draw=_ring, stretch=1.05),
    "heart": Shape(plural="hearts", draw=_heart),
    "cross": Shape(plural="crosses", draw=_cross),
    "person": Shape(plural="people", draw=_person, compound=True, aspect=0.75),
    "tree": Shape(plural="trees", draw=_tree, compound=True, aspect=0.85),
    "house": Shape(plural="houses", draw=_house, compound=True, aspect=1.1),
    "car": Shape(plural="cars", draw=_car, compound=True, aspect=1.4),
    "flower": Shape(plural="flowers", draw=_flower, compound=True, aspect=0.8),
    "fish": Shape(plural="fishes", draw=_fish, compound=True, aspect=1.35),
    "boat": Shape(plural="boats", draw=_boat, compound=True),
    "mushroom": Shape(plural="mushrooms", draw=_mushroom, compound=True),
}


def draw_shape(
    name: str, palette: Palette, *, width: int, height: int, angle: float = 0.0, mirror: bool = False
) -> np.ndarray:
    """Draws one thing, anti-aliased, on transparent ground.

    Args:
        name: A key of SHAPES.
        palette: Its colours.
        width: In pixels.
        height: In pixels.
        angle: Rotation in degrees, counter-clockwise.
        mirror: Whether to flip it left to right.

    Returns:
        float32 (height, width, 4), colours in [0, 255] and alpha in [0, 1].
    """
    pen = Pen(width * _SUPERSAMPLE, height * _SUPERSAMPLE)
    SHAPES[name].draw(pen, palette)
    canvas = pen.canvas
    if mirror:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if angle:
        canvas = canvas.rotate(angle, resample=Image.Resampling.BILINEAR)
    rgba = np.asarray(canvas, np.float32).reshape(height, _SUPERSAMPLE, width, _SUPERSAMPLE, 4)
    alpha = rgba[..., 3:] / 255
    mean_alpha = alpha.mean(axis=(1, 3))
    # Averaging colour weighted by alpha keeps transparent black from darkening the rim.
    color = (rgba[..., :3] * alpha).mean(axis=(1, 3)) / np.maximum(mean_alpha, 1e-6)
    return np.concatenate([color, mean_alpha], axis=2).astype(np.float32)
