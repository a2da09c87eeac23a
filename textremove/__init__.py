"""textremove: removes objects from photos by naming them.

>>> import textremove
>>> remover = textremove.load_remover("tiny")
>>> photo = textremove.read_image("photo.jpg")
>>> removal = remover.remove(photo, "ball at the left")

Names are looked up when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textremove.errors import UserError as UserError
    from textremove.images import encode_image as encode_image
    from textremove.images import read_image as read_image
    from textremove.presets import load_inpainter as load_inpainter
    from textremove.presets import load_remover as load_remover
    from textremove.presets import load_segmenter as load_segmenter
    from textremove.removal import Removal as Removal
    from textremove.removal import Remover as Remover

__version__ = "0.1.0"

_HOME = {
    "Removal": "removal",
    "Remover": "removal",
    "UserError": "errors",
    "encode_image": "images",
    "load_inpainter": "presets",
    "load_remover": "presets",
    "load_segmenter": "presets",
    "read_image": "images",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
