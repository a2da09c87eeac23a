"""Examples of what is not there, made of prepared ones: they teach a segmenter to say "not found".

PIPE has them for nothing: the photo without the object, asked for by the same prompt. They teach that
something must stand at the place, but hardly that it must be what was named, since the place is mostly empty
in them. So two of three are the photo as it is, asked for something else at that place: that takes longer to
learn.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Self

from textremove.pipe.prepared import read_dataset_info
from textremove.pipe.prompts import refine_prompt

_IN_TRUTH = 1 / 3  # of the absent ones are the photo without its object
_TRIES = 64  # to draw a class that is another one; few are needed unless nearly all examples are of one class
_ALIKE = 3  # letters; words that begin alike, such as "ball" and "balls", may both name what is there


@dataclass(frozen=True, kw_only=True)
class AbsentExamples:
    """Turns a share of the examples into ones whose mask is empty.

    Which ones, and how, is drawn from the seed and the example's id alone, so it is the same in every epoch,
    on every worker and after a restart. Examples without place words stay as they are: another "ball" may be
    anywhere in the photo. A class that is asked for in vain is drawn as often as it occurs, so that a rare
    word is no sign of absence. That it is not in the photo at that place is likely, not known.

    Attributes:
        share: Of the examples, between 0 and 1.
        classes: How often each class occurs: "classes" of dataset.json.
        seed: Of the draws.
        columns: What it looks at in an example, besides image, mask and prompt.
    """

    columns: ClassVar[tuple[str, ...]] = ("example_id", "object_class", "place", "truth")

    share: float
    classes: Mapping[str, int]
    seed: int = 0

    @classmethod
    def of(cls, data: str | Path, *, share: float, seed: int) -> Self:
        """With the classes of a prepared folder."""
        return cls(share=share, classes=read_dataset_info(data)["classes"], seed=seed)

    @cached_property
    def _names(self) -> list[str]:
        return list(self.classes)

    @cached_property
    def _cumulative(self) -> list[int]:
        return list(accumulate(self.classes.values()))

    def apply(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the example as it is, or with its object absent: then "mask" is None.

        Args:
            row: With "image", "mask", "prompt" and `columns`; "truth" may be None.
        """
        draw = random.Random(f"{self.seed} {row['example_id']}")  # hashed, so alike in every process
        if draw.random() >= self.share or not row["place"]:
            return dict(row)
        in_truth = draw.random() < _IN_TRUTH and row["truth"] is not None
        if in_truth:
            return {**row, "image": row["truth"], "mask": None}
        other = self._other_class(row["object_class"], draw)
        if other is None:
            return dict(row)
        return {**row, "prompt": refine_prompt(other, row["place"]).prompt, "mask": None}

    def _other_class(self, object_class: str, draw: random.Random) -> str | None:
        for _ in range(_TRIES):
            (name,) = draw.choices(self._names, cum_weights=self._cumulative)
            if name[:_ALIKE] != object_class[:_ALIKE]:
                return name
        return None
