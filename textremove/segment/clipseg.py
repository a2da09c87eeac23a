"""CLIPSeg, the paper's baseline, as a Segmenter: pretrained, and trained on nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import cv2
import numpy as np
import torch
from PIL import Image
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from textremove.segment.hub import load_model
from textremove.segment.masks import DEFAULT_THRESHOLD, MaskStrategy, segmentation_from_probability
from textremove.segment.protocol import Segmentation


class ClipSegSegmenter:
    """Runs a CLIPSeg. Implements Segmenter.

    It reads the whole prompt, place words too, as in the paper. The photo is squeezed into its square by its
    own processor, not letterboxed: that is how it was trained and how its published figures were made, and
    the photo's edges are the square's, so that "top" of a wide photo is not a padded border.

    Photos run one by one, so that a mask cannot depend on the batch.

    Args:
        model: In evaluation mode.
        processor: Its CLIPSegProcessor.
        threshold: Probability above which a pixel is in the mask; the paper's by default.
        strategy: "box", the paper's, or "raw".
    """

    def __init__(
        self,
        model: CLIPSegForImageSegmentation,
        processor: CLIPSegProcessor,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        strategy: MaskStrategy = "box",
    ) -> None:
        self.model: Any = model
        self.processor: Any = processor
        self.threshold = threshold
        self.strategy: MaskStrategy = strategy

    @classmethod
    def from_pretrained(cls, source: str, *, device: str = "cpu") -> Self:
        """Loads a hub id or local folder. Raises WeightsError when it cannot be."""
        return cls(*load_model(CLIPSegForImageSegmentation, CLIPSegProcessor, source, device=device))

    def segment(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> list[Segmentation]:
        """Segments each photo by its prompt. Shapes as in `Segmenter.segment`."""
        return [
            segmentation_from_probability(
                self._probability(image, prompt), threshold=self.threshold, strategy=self.strategy
            )
            for image, prompt in zip(images, prompts, strict=True)
        ]

    @torch.inference_mode()
    def _probability(self, image: np.ndarray, prompt: str) -> np.ndarray:
        """Probability of the object at every pixel: float32 (height, width) in [0, 1]."""
        inputs = self.processor(
            text=[prompt],
            images=[Image.fromarray(image)],
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        logits_HW = self.model(**inputs.to(self.model.device)).logits.squeeze(0)
        height, width = image.shape[:2]
        # Bilinear on the probabilities, before the threshold: a thresholded mask would show its pixels.
        return cv2.resize(logits_HW.sigmoid().cpu().numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
