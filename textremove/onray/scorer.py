"""Scores segmenters and inpainters on one prepared example after another, inside Ray Data actors."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from textremove.errors import UserError
from textremove.images import decode_image, decode_mask
from textremove.inpaint.metrics import in_mask_error, psnr
from textremove.inpaint.protocol import Inpainter
from textremove.presets import load_inpainter, load_segmenter
from textremove.removal import fill_holes
from textremove.segment.location_prior import LocationPriorSegmenter
from textremove.segment.masks import box_mask
from textremove.segment.metrics import dice, iou
from textremove.segment.protocol import Segmenter

LOCATION_PRIOR = "location-prior"
_ABOUT = ("example_id", "photo_id", "prompt", "object_class", "place", "height", "width")


@dataclass(frozen=True, kw_only=True)
class InpainterSpec:
    """An inpainter to score, as `textremove.presets.load_inpainter` takes it."""

    name: str
    adapter: str | None = None
    num_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """What to score.

    Attributes:
        segmenters: What each is called in the results, and its preset or folder.
        prior_boxes: Boxes of the location prior.
        inpainters: What each is called in the results, and how it is loaded.
        seed: With an example's id it gives the seed that all inpainters share on it.
        gpu: Whether to run on a GPU.
    """

    segmenters: dict[str, str]
    prior_boxes: dict[str, tuple[float, float, float, float]]
    inpainters: dict[str, InpainterSpec]
    seed: int
    gpu: bool


def example_seed(seed: int, example_id: str) -> int:
    """The seed of one example's fillings: the same in every run and for every inpainter."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{example_id}".encode()).digest()[:4], "big")


class Scorer:
    """Loads the models once, then scores examples. A class for `ray.data.Dataset.map`."""

    def __init__(self, config: ScorerConfig) -> None:
        self.config = config
        self.segmenters: dict[str, Segmenter] = {}
        self.inpainters: dict[str, Inpainter] = {}
        self.failure = ""
        try:
            self._load("cuda" if config.gpu else "cpu")
        except UserError as error:  # an actor whose constructor raises loses the reason, and is tried again
            self.failure = str(error)

    def _load(self, device: str) -> None:
        for name, source in self.config.segmenters.items():
            self.segmenters[name] = load_segmenter(source, device=device)
        if self.config.prior_boxes:
            self.segmenters[LOCATION_PRIOR] = LocationPriorSegmenter(self.config.prior_boxes)
        for name, spec in self.config.inpainters.items():
            self.inpainters[name] = load_inpainter(
                spec.name, adapter=spec.adapter, num_steps=spec.num_steps, device=device
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Scores one prepared example.

        Returns:
            "segment" and "inpaint": JSON lists with one object for every segmenter and inpainter; "failure":
            the line for the user when the models could not be loaded, else "".
        """
        if self.failure:
            return {"segment": "[]", "inpaint": "[]", "failure": self.failure}
        image, mask = decode_image(row["image"]), decode_mask(row["mask"])
        about = {name: row[name] for name in _ABOUT} | {"mask_fraction": float((mask > 0).mean())}
        segment, inpaint = [], []
        for name, segmenter in self.segmenters.items():
            started = time.perf_counter()
            found = segmenter.segment([image], [row["prompt"]])[0]
            seconds = time.perf_counter() - started
            scores = {"raw_dice": dice(found.raw, mask), "raw_iou": iou(found.raw, mask)}
            box, true_box = box_mask(found.raw), box_mask(mask)
            scores |= {"box_dice": dice(box, true_box), "box_iou": iou(box, true_box)}
            scores |= {"score": found.score, "seconds": seconds}
            segment.append(about | {"segmenter": name, "found": found.found} | scores)
        if self.inpainters:
            truth, seed = decode_image(row["truth"]), example_seed(self.config.seed, row["example_id"])
        for name, inpainter in self.inpainters.items():
            started = time.perf_counter()
            filled = fill_holes(inpainter, [image], [mask], [seed])[0]
            seconds = time.perf_counter() - started
            error = in_mask_error(filled, truth, mask)
            scores = {"squared_error": error, "psnr": psnr(error), "seconds": seconds}
            pixels = int((mask > 0).sum())
            inpaint.append(about | {"inpainter": name, "seed": seed, "num_pixels": pixels} | scores)
        return {"segment": _dumps(segment), "inpaint": _dumps(inpaint), "failure": ""}


def _dumps(rows: list[dict[str, Any]]) -> str:
    # Arrow hands out its own scalar types for some columns.
    return json.dumps(rows, default=lambda value: value.item())
