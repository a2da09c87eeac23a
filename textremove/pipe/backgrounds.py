"""Backgrounds of procedural scenes: textured, layered, softly lit, seeded.

Every function returns float32 (side, side, 3) with values in [0, 255]. Lengths are fractions of the
side, so that a scene looks alike at any size.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

Rng = np.random.Generator


def random_color(rng: Rng, *, low: int = 40, high: int = 225) -> np.ndarray:
    """A colour, float32 (3,), each channel in [low, high)."""
    return rng.uniform(low, high, 3).astype(np.float32)


def _near_color(rng: Rng, color: np.ndarray, spread: float) -> np.ndarray:
    return np.clip(color + rng.uniform(-spread, spread, 3), 15, 240).astype(np.float32)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = np.meshgrid(axis, axis)
    return x, y


def _mix(weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first + (second - first) * weight[..., None]


def smooth_noise(rng: Rng, side: int, cells: int) -> np.ndarray:
    """Value noise, float32 (side, side) in [0, 1], with about `cells` blobs along a side."""
    coarse = Image.fromarray(rng.random((cells + 2, cells + 2)).astype(np.float32), mode="F")
    fine = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(fine, 0, 1)


def _gradient(rng: Rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    first, second = random_color(rng), random_color(rng)
    if rng.random() < 0.3:
        cx, cy = rng.uniform(0, 1, 2)
        weight = np.clip(np.hypot(x - cx, y - cy) / 1.1, 0, 1)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        weight = np.clip(0.5 + (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)), 0, 1)
    return _mix(weight, first, second)


def _stripes(rng: Rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    period = rng.uniform(0.07, 0.22)
    phase = (np.cos(angle) * x + np.sin(angle) * y) / period + rng.random()
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    if rng.random() < 0.5:  # hard stripes, with edges one or two pixels soft
        wave = np.clip((wave - 0.5) * period * side / 2.5 + 0.5, 0, 1)
    color = random_color(rng)
    return _mix(wave, color, _near_color(rng, color, 80))


def _checks(rng: Rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    period = rng.uniform(0.16, 0.36)
    px, py = rng.random(2)
    wave = np.sin(2 * np.pi * (x / period + px)) * np.sin(2 * np.pi * (y / period + py))
    weight = np.clip(wave * period * side / 4 + 0.5, 0, 1)
    color = random_color(rng)
    return _mix(weight, color, _near_color(rng, color, 70))


def _bricks(rng: Rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    height = rng.uniform(0.07, 0.15)
    width = height * rng.uniform(1.6, 2.6)
    row = np.floor(y / height)
    u = (x / width + 0.5 * (row % 2)) % 1
    v = (y / height) % 1
    mortar_u, mortar_v = 0.018 / width, 0.018 / height
    mortar = np.maximum((u < mortar_u).astype(np.float32), (v < mortar_v).astype(np.float32))
    color = random_color(rng)
    return _mix(mortar, color, _near_color(rng, color, 70))


def _noise(rng: Rng, side: int) -> np.ndarray:
    weight = 0.65 * smooth_noise(rng, side, int(rng.integers(2, 5))) + 0.35 * smooth_noise(rng, side, 9)
    color = random_color(rng)
    return _mix(np.clip(weight, 0, 1), color, _near_color(rng, color, 90))


_TEXTURES = (_gradient, _stripes, _checks, _bricks, _noise)


def _horizon(rng: Rng, side: int) -> np.ndarray:
    """Two textures one above the other, parted by a flat or a hilly line."""
    x, y = _grid(side)
    above = _gradient(rng, side) if rng.random() < 0.6 else _noise(rng, side)
    below = _TEXTURES[rng.integers(len(_TEXTURES))](rng, side)
    line = np.full_like(x, rng.uniform(0.3, 0.7))
    if rng.random() < 0.5:
        line = line + rng.uniform(0.02, 0.07) * np.sin(2 * np.pi * (x * rng.uniform(0.6, 2) + rng.random()))
    weight = np.clip((y - line) * side / 1.5 + 0.5, 0, 1)
    return above + (below - above) * weight[..., None]


def draw_background(rng: Rng, side: int, *, grain: float) -> np.ndarray:
    """A whole background: a texture or a horizon, soft shading over it, a little grain.

    Args:
        rng: Where the randomness comes from.
        side: Pixels along a side.
        grain: Largest standard deviation of the grain, in grey levels of 255.
    """
    paint = _horizon if rng.random() < 0.4 else _TEXTURES[rng.integers(len(_TEXTURES))]
    image = paint(rng, side)
    if rng.random() < 0.6:  # soft shading, as of uneven light
        light = 0.8 + 0.4 * smooth_noise(rng, side, int(rng.integers(1, 4)))
        image = image * light[..., None]
    if grain:
        image = image + rng.normal(0, rng.uniform(0, grain), image.shape[:2])[..., None]
    return np.clip(image, 0, 255).astype(np.float32)
