"""The ConditionedUNet as a Segmenter: photos of any size in, masks at their own size out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from textremove.checkpoint import read_manifest
from textremove.errors import ConfigError
from textremove.segment.conditioned_unet import KIND, ConditionedUNet
from textremove.segment.masks import DEFAULT_THRESHOLD, MaskStrategy, segmentation_from_probability
from textremove.segment.preprocess import images_to_tensor, probability_back
from textremove.segment.protocol import Segmentation


class ConditionedUNetSegmenter:
    """Runs a ConditionedUNet. Implements Segmenter.

    Args:
        model: In evaluation mode.
        threshold: Probability above which a pixel is in the mask.
        strategy: "box" or "raw".
        batch_size: Pictures run together. One by default, so that a mask cannot depend on the batch.

    Raises:
        ConfigError: An unknown strategy.
    """

    def __init__(
        self,
        model: ConditionedUNet,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        strategy: MaskStrategy = "box",
        batch_size: int = 1,
    ) -> None:
        if strategy not in ("box", "raw"):
            raise ConfigError(f"unknown mask strategy {strategy!r}; choose box or raw")
        self.model = model.eval()
        self.threshold = threshold
        self.strategy: MaskStrategy = strategy
        self.batch_size = batch_size

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str = "cpu", batch_size: int = 1) -> Self:
        """Loads a model folder, with the threshold and strategy chosen for it on validation.

        Raises:
            WeightsError: The folder is missing, damaged, or holds something else.
        """
        metadata = read_manifest(path, kind=KIND)["metadata"]
        return cls(
            ConditionedUNet.from_pretrained(path).to(device),
            threshold=metadata.get("threshold", DEFAULT_THRESHOLD),
            strategy=metadata.get("strategy", "box"),
            batch_size=batch_size,
        )

    def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
        """Segments each photo by its prompt. Shapes as in `Segmenter.segment`."""
        return [
            segmentation_from_probability(probability, threshold=self.threshold, strategy=self.strategy)
            for probability in self.probabilities(images, prompts)
        ]

    @torch.inference_mode()
    def probabilities(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[np.ndarray]:
        """Probability of the object at every pixel: float32 (height, width) in [0, 1] for each photo."""
        device = next(self.model.parameters()).device
        results: list[np.ndarray] = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            image_BCHW = images_to_tensor(images[part], self.model.config.image_size).to(device)
            input_ids_BL, attention_mask_BL = self.model.tokenize(list(prompts[part]))
            logits_B1HW = self.model(image_BCHW, input_ids_BL.to(device), attention_mask_BL.to(device))
            for image, probability_HW in zip(
                images[part], logits_B1HW[:, 0].sigmoid().cpu().numpy(), strict=True
            ):
                results.append(probability_back(probability_HW, height=image.shape[0], width=image.shape[1]))
        return results
