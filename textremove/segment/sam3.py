"""SAM 3 as a Segmenter: it finds every object that a noun phrase names, and the place words choose."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from transformers import Sam3Model, Sam3Processor

from textremove.segment.hub import load_model
from textremove.segment.instances import Instance, InstanceSegmenter


class Sam3Segmenter(InstanceSegmenter):
    """Runs a SAM 3. Implements Segmenter.

    Args:
        model: In evaluation mode.
        processor: Its Sam3Processor.
        threshold: Confidence above which an object counts; that of SAM 3's own image code.
    """

    def __init__(self, model: Sam3Model, processor: Sam3Processor, *, threshold: float = 0.5) -> None:
        self.model: Any = model
        self.processor: Any = processor
        self.threshold = threshold

    @classmethod
    def from_pretrained(cls, source: str, *, device: str = "cpu") -> Self:
        """Loads a hub id or local folder, of SAM 3 for images or of the video model that holds it.

        Raises:
            WeightsError: It cannot be loaded.
        """
        return cls(*load_model(Sam3Model, Sam3Processor, source, device=device))

    @torch.inference_mode()
    def instances(self, image: np.ndarray, what: str) -> list[Instance]:
        """As `InstanceSegmenter.instances`."""
        pixels = self.processor.image_processor([Image.fromarray(image)], return_tensors="pt")
        # The processor's own call does not cut a text that is too long, which the model then cannot read.
        text = self.processor.tokenizer(
            [what],
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        device = self.model.device
        found = self.model(
            pixel_values=pixels["pixel_values"].to(device),
            input_ids=text["input_ids"].to(device),
            attention_mask=text["attention_mask"].to(device),
        )
        # Two questions, as its own post-processing has it: is there any at all, and is it this one?
        scores_N = (found.presence_logits.sigmoid() * found.pred_logits.sigmoid())[0]
        keep = scores_N > self.threshold
        # The photo was squeezed into a square, so fractions of the square are fractions of the photo.
        boxes_N4 = found.pred_boxes[0, keep].clamp(0, 1).tolist()
        masks_NHW = found.pred_masks[0, keep].sigmoid().cpu().numpy()
        return [
            Instance(box=tuple(box), probability=mask, score=score)
            for box, mask, score in zip(boxes_N4, masks_NHW, scores_N[keep].tolist(), strict=True)
        ]
