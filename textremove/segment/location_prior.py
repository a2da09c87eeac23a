"""The location prior: a segmenter that reads only the place words and never looks at the picture.

Since prompts name the place, it is the baseline that shows what looking adds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from textremove.atomic import atomic_dir
from textremove.checkpoint import read_manifest, write_manifest
from textremove.errors import DatasetError
from textremove.segment.masks import bounding_box
from textremove.segment.protocol import Segmentation

KIND = "location-prior"
_PLACE_FOLLOWS = " at the "
_ANYWHERE = ""


def place_phrase(prompt: str) -> str:
    """The place words of a refined prompt: "top left" of "ball at the top left"; "" when there are none."""
    return prompt.rpartition(_PLACE_FOLLOWS)[2] if _PLACE_FOLLOWS in prompt else _ANYWHERE


class LocationPriorSegmenter:
    """Answers with the mean training box of a prompt's place phrase. Implements Segmenter.

    Args:
        boxes: Place phrase to box (left, top, right, bottom), in fractions of width and height. The empty
            phrase's box answers for phrases that were never seen.
    """

    def __init__(self, boxes: dict[str, tuple[float, float, float, float]]) -> None:
        self.boxes = boxes

    @classmethod
    def fit(cls, examples: Iterable[tuple[str, np.ndarray]]) -> Self:
        """Averages boxes by place phrase.

        Args:
            examples: (prompt, true mask uint8 (height, width)) pairs of the training split.

        Raises:
            DatasetError: There was no example with a mask.
        """
        seen: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        for prompt, mask in examples:
            box = bounding_box(mask)
            if box is None:
                continue
            height, width = mask.shape
            relative = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
            seen[_ANYWHERE].append(relative)
            if phrase := place_phrase(prompt):
                seen[phrase].append(relative)
        if not seen:
            raise DatasetError("the location prior needs training examples with masks; there were none")
        means = {phrase: np.mean(boxes, axis=0) for phrase, boxes in seen.items()}
        return cls({phrase: tuple(float(v) for v in mean) for phrase, mean in means.items()})  # type: ignore[misc]

    def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
        """Gives each photo its place's box. Shapes as in `Segmenter.segment`."""
        results = []
        for image, prompt in zip(images, prompts, strict=True):
            height, width = image.shape[:2]
            left, top, right, bottom = self.boxes.get(place_phrase(prompt), self.boxes[_ANYWHERE])
            mask = np.zeros((height, width), np.uint8)
            mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = (
                255
            )
            results.append(Segmentation(mask=mask, raw=mask, score=1.0, found=bool(mask.any())))
        return results

    def save_pretrained(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Saves the boxes to a folder."""
        with atomic_dir(path, overwrite=overwrite) as folder:
            (folder / "boxes.json").write_text(json.dumps(self.boxes, indent=2, sort_keys=True))
            write_manifest(folder, kind=KIND, config={}, metadata={})

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Loads boxes saved by `save_pretrained`. Raises WeightsError when there are none."""
        read_manifest(path, kind=KIND)
        boxes = json.loads((Path(path) / "boxes.json").read_text())
        return cls({phrase: tuple(box) for phrase, box in boxes.items()})
