"""Scores segmenters and inpainters on one prepared example after another, inside Ray Data actors."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from textremove.errors import UserError
from textremove.groups import class_group, place_group, size_group
from textremove.images import decode_image, decode_mask, encode_mask
from textremove.inpaint.metrics import in_mask_error, psnr
from textremove.inpaint.protocol import Inpainter
from textremove.presets import load_inpainter, load_segmenter
from textremove.removal import fill_holes
from textremove.segment.location_prior import LocationPriorSegmenter
from textremove.segment.masks import box_mask
from textremove.segment.metrics import dice, iou
from textremove.segment.protocol import Segmentation, Segmenter

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
        device = "cuda" if config.gpu else "cpu"
        try:
            self.segmenters = load_segmenters(config, device)
            for name, spec in config.inpainters.items():
                self.inpainters[name] = load_inpainter(
                    spec.name, adapter=spec.adapter, num_steps=spec.num_steps, device=device
                )
        except UserError as error:  # an actor whose constructor raises loses the reason, and is tried again
            self.failure = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Scores one prepared example.

        Returns:
            "segment" and "inpaint": JSON lists with one object for every segmenter and inpainter; "failure":
            the line for the user when the models could not be loaded, else "".
        """
        if self.failure:
            return {"segment": "[]", "inpaint": "[]", "failure": self.failure}
        image, mask = decode_image(row["image"]), decode_mask(row["mask"])
        about = {name: row[name] for name in _ABOUT} | _groups(row, mask)
        segment, inpaint = [], []
        for name, segmenter in self.segmenters.items():
            started = time.perf_counter()
            found = segmenter.segment([image], [row["prompt"]])[0]
            seconds = time.perf_counter() - started
            segment.append(about | {"segmenter": name} | mask_scores(found, mask) | {"seconds": seconds})
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


class MaskFinder:
    """Finds masks again, for the few examples that are shown. A class for `ray.data.Dataset.map`.

    Masks of every example would have to travel from the scorers; a dozen are found again in seconds.
    """

    def __init__(self, config: ScorerConfig) -> None:
        self.segmenters = load_segmenters(config, "cuda" if config.gpu else "cpu")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Adds "found": the pixel mask of every segmenter as a PNG, in the order of their names' config."""
        image = decode_image(row["image"])
        raw = [each.segment([image], [row["prompt"]])[0].raw for each in self.segmenters.values()]
        shown = {name: row[name] for name in ("example_id", "image", "mask")}
        return shown | {"names": list(self.segmenters), "found": [encode_mask(mask) for mask in raw]}


def load_segmenters(config: ScorerConfig, device: str) -> dict[str, Segmenter]:
    """Loads the segmenters by what they are called, the location prior last."""
    segmenters = {name: load_segmenter(source, device=device) for name, source in config.segmenters.items()}
    if config.prior_boxes:
        segmenters[LOCATION_PRIOR] = LocationPriorSegmenter(config.prior_boxes)
    return segmenters


def mask_scores(found: Segmentation, true: np.ndarray) -> dict[str, float | bool]:
    """How well what was found agrees with the true mask, three ways (paper section 5.1).

    "raw": the pixel mask against the true mask. "box": the box around the pixel mask against the box around
    the true mask. "raw_box": the pixel mask as it is against the box around the true mask; a perfect pixel
    mask stays below 1 in it, by as much as the object does not fill its own box.

    Args:
        found: Of one example.
        true: uint8 (height, width), non-zero = the object.
    """
    box, true_box = box_mask(found.raw), box_mask(true)
    scores: dict[str, float | bool] = {"found": found.found, "score": found.score}
    for name, a, b in (("raw", found.raw, true), ("box", box, true_box), ("raw_box", found.raw, true_box)):
        scores |= {f"{name}_dice": dice(a, b), f"{name}_iou": iou(a, b)}
    return scores


def _groups(row: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    fraction = float((mask > 0).mean())
    return {
        "mask_fraction": fraction,
        "class_group": class_group(row["object_class"]),
        "size_group": size_group(fraction),
        "place_group": place_group(row["place"]),
    }


def _dumps(rows: list[dict[str, Any]]) -> str:
    # Arrow hands out its own scalar types for some columns.
    return json.dumps(rows, default=lambda value: value.item())
