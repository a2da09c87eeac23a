"""Scores segmenters and inpainters on one prepared example after another, inside Ray Data actors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from textremove.errors import UserError
from textremove.groups import class_group, place_group, size_group
from textremove.images import decode_image, decode_mask, encode_image, encode_mask
from textremove.inpaint.perceptual import NetworkWeights
from textremove.onray.filling_scorer import FillingScorer, example_seed
from textremove.onray.variants import Filling
from textremove.presets import load_segmenter
from textremove.segment.location_prior import LocationPriorSegmenter
from textremove.segment.masks import box_mask
from textremove.segment.metrics import dice, iou
from textremove.segment.protocol import Segmentation, Segmenter

LOCATION_PRIOR = "location-prior"
_ABOUT = ("example_id", "photo_id", "prompt", "object_class", "place", "height", "width")


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """What to score.

    Attributes:
        segmenters: What each is called in the results, and its preset or folder.
        prior_boxes: Boxes of the location prior.
        fillings: The ways of filling holes, by what they are called in the results.
        weights: Of scores that look through networks.
        seed: With an example's id it gives the seed that all fillings share on it.
        gpu: Whether to run on a GPU.
    """

    segmenters: dict[str, str]
    prior_boxes: dict[str, tuple[float, float, float, float]]
    fillings: dict[str, Filling]
    weights: NetworkWeights
    seed: int
    gpu: bool


class Scorer:
    """Loads the models once, then scores examples. A class for `ray.data.Dataset.map`."""

    def __init__(self, config: ScorerConfig) -> None:
        self.config = config
        self.segmenters: dict[str, Segmenter] = {}
        self.fillings: FillingScorer | None = None
        self.failure = ""
        device = "cuda" if config.gpu else "cpu"
        try:
            self.segmenters = load_segmenters(config, device)
            if config.fillings:
                self.fillings = load_fillings(config, self.segmenters, device)
        except UserError as error:  # an actor whose constructor raises loses the reason, and is tried again
            self.failure = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, str | bytes]:
        """Scores one prepared example.

        Returns:
            "segment" and "inpaint": JSON lists with one object for every segmenter and way of filling;
            "looks": float32 of the truth and of each filling, one after the other, for local FID;
            "failure": the line for the user when the models could not be loaded, else "".
        """
        if self.failure:
            return {"segment": "[]", "inpaint": "[]", "looks": b"", "failure": self.failure}
        image, mask = decode_image(row["image"]), decode_mask(row["mask"])
        about = {name: row[name] for name in _ABOUT} | _groups(row, mask)
        segment = []
        for name, segmenter in self.segmenters.items():
            started = time.perf_counter()
            found = segmenter.segment([image], [row["prompt"]])[0]
            seconds = time.perf_counter() - started
            segment.append(about | {"segmenter": name} | mask_scores(found, mask) | {"seconds": seconds})
        inpaint, looks = [], b""
        if self.fillings is not None:
            truth, seed = decode_image(row["truth"]), example_seed(self.config.seed, row["example_id"])
            scored, looks_VD = self.fillings.score(image, mask, truth, row["prompt"], seed)
            inpaint, looks = [about | scores for scores in scored], looks_VD.tobytes()
        return {"segment": _dumps(segment), "inpaint": _dumps(inpaint), "looks": looks, "failure": ""}


class Shower:
    """Makes masks and fillings again, of the few examples that are shown. A class for `ray.data.Dataset.map`.

    Pictures of every example would have to travel from the scorers; a dozen are made again in seconds.

    Args:
        config: As it was scored.
        filled: Ids of the examples whose fillings are shown; of the others, masks are.
    """

    def __init__(self, config: ScorerConfig, filled: frozenset[str]) -> None:
        device = "cuda" if config.gpu else "cpu"
        self.config = config
        self.filled = filled
        self.segmenters = load_segmenters(config, device)
        self.fillings = load_fillings(config, self.segmenters, device) if filled else None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Adds "found", the pixel mask of every segmenter, and "filled", what every variant made of it.

        Both are PNGs in the order of the configuration; "filled" is empty where it was not asked for.
        """
        image, mask = decode_image(row["image"]), decode_mask(row["mask"])
        found = [each.segment([image], [row["prompt"]])[0].raw for each in self.segmenters.values()]
        filled = []
        if self.fillings is not None and row["example_id"] in self.filled:
            seed = example_seed(self.config.seed, row["example_id"])
            filled = [
                self.fillings.fill(name, image, mask, row["prompt"], seed).image
                for name in self.config.fillings
            ]
        shown = {name: row[name] for name in ("example_id", "image", "mask")}
        return shown | {
            "truth": row["truth"] or b"",
            "names": list(self.segmenters),
            "found": list(map(encode_mask, found)),
            "filled": list(map(encode_image, filled)),
        }


def load_fillings(config: ScorerConfig, segmenters: Mapping[str, Segmenter], device: str) -> FillingScorer:
    """Loads the inpainters; the first segmenter looks whether something is left."""
    first = next(iter(segmenters.values()), None)
    return FillingScorer(config.fillings, config.weights, first, device=device)


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
