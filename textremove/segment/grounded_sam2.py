"""Grounding DINO and SAM 2 as a Segmenter: words to boxes, boxes to masks, and the place words choose."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor, Sam2Model, Sam2Processor

from textremove.segment.hub import load_model
from textremove.segment.instances import Instance, InstanceSegmenter

_MAX_BOXES = 100  # per photo, as COCO's evaluation has it: a vague word must not fill the memory with masks


class GroundedSam2Segmenter(InstanceSegmenter):
    """Runs a Grounding DINO and a SAM 2. Implements Segmenter.

    Args:
        detector: (GroundingDinoForObjectDetection, GroundingDinoProcessor), in evaluation mode.
        masker: (Sam2Model, Sam2Processor), in evaluation mode.
        threshold: Confidence above which a box counts; that of Grounding DINO's own demonstration.
    """

    def __init__(
        self, detector: tuple[Any, Any], masker: tuple[Any, Any], *, threshold: float = 0.35
    ) -> None:
        self.detector, self.detector_processor = detector
        self.masker, self.masker_processor = masker
        self.threshold = threshold

    @classmethod
    def from_pretrained(cls, detector: str, masker: str, *, device: str = "cpu") -> Self:
        """Loads two hub ids or local folders; the second of SAM 2 for images, or for video, which holds it.

        Raises:
            WeightsError: One cannot be loaded.
        """
        return cls(
            load_model(GroundingDinoForObjectDetection, GroundingDinoProcessor, detector, device=device),
            load_model(Sam2Model, Sam2Processor, masker, device=device),
        )

    @torch.inference_mode()
    def instances(self, image: np.ndarray, what: str) -> list[Instance]:
        """As `InstanceSegmenter.instances`, the most confident first."""
        picture = Image.fromarray(image)
        boxes_N4, scores_N = self._detect(picture, what)
        if not len(boxes_N4):
            return []
        masks_NHW = self._masks(picture, boxes_N4)
        return [
            Instance(box=tuple(box), probability=mask, score=score)
            for box, mask, score in zip(boxes_N4.tolist(), masks_NHW, scores_N.tolist(), strict=True)
        ]

    def _detect(self, picture: Image.Image, what: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (N, 4), corners in fractions of the photo, and their scores (N,)."""
        inputs = self.detector_processor(
            images=picture,
            text=f"{what.replace('.', ' ')}.",  # a full stop ends a thing's name
            truncation=True,
            max_length=self.detector.config.max_text_len,
            return_tensors="pt",
        ).to(self.detector.device)
        found = self.detector(**inputs)
        result = self.detector_processor.post_process_grounded_object_detection(
            found, inputs["input_ids"], threshold=self.threshold
        )[0]
        scores_N, order = result["scores"].sort(descending=True)
        boxes_N4 = result["boxes"][order].clamp(0, 1)
        return boxes_N4[:_MAX_BOXES].cpu(), scores_N[:_MAX_BOXES].cpu()

    def _masks(self, picture: Image.Image, boxes_N4: torch.Tensor) -> np.ndarray:
        """Probabilities of each box's object: float32 (N, h, w) over the photo, at SAM 2's resolution."""
        scale = torch.tensor([picture.width, picture.height] * 2)
        inputs = self.masker_processor(
            images=picture, input_boxes=[(boxes_N4 * scale).tolist()], return_tensors="pt"
        ).to(self.masker.device)
        found = self.masker(
            pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"], multimask_output=False
        )
        return np.asarray(found.pred_masks[0, :, 0].sigmoid().cpu().numpy())
