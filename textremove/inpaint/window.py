"""Where the square lies that a hole is filled in."""

from __future__ import annotations

from dataclasses import dataclass

MAX_UPSCALE = 4
"""A photo smaller than the model is enlarged this much at most; beyond it, its edge is repeated."""

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, right and bottom exclusive."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square over a photo, in pixels. It may hang over a photo that is narrower than the square."""

    left: int
    top: int
    side: int


def choose_window(box: Box, shape: tuple[int, ...], *, resolution: int, context: float) -> Window:
    """Chooses the square around a box.

    It shows the hole with context, is not smaller than the model's resolution where the photo allows, and
    never so small that it would be upscaled beyond use. It lies inside the photo along every side that is
    long enough.

    Args:
        box: Around the hole.
        shape: (height, width, ...) of the photo.
        resolution: The model's side in pixels.
        context: Side of the square over the larger side of the box, when the photo has room.
    """
    height, width = shape[:2]
    left, top, right, bottom = box
    wanted = max(resolution, round(max(right - left, bottom - top) * context))
    side = min(wanted, max(height, width, resolution // MAX_UPSCALE))

    def start(low: int, extent: int, limit: int) -> int:
        centred = low + extent // 2 - side // 2
        if side >= limit:  # hangs over on both sides alike
            return -((side - limit) // 2)
        return min(max(centred, 0), limit - side)

    return Window(left=start(left, right - left, width), top=start(top, bottom - top, height), side=side)
