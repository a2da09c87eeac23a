"""From a photo to what a segmenter reads, and from its answer back. Training and prediction share it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from textremove.letterbox import Letterbox

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images_BHWC: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to ImageNet-normalised float32 (B, 3, H, W)."""
    image_BCHW = torch.tensor(images_BHWC).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image_BCHW - mean) / std


def images_to_tensor(images: Sequence[np.ndarray], side: int) -> Tensor:
    """Letterboxes photos of any size into normalised squares, float32 (B, 3, side, side)."""
    squares = [
        Letterbox(side=side, height=image.shape[0], width=image.shape[1]).image(image) for image in images
    ]
    return normalise(np.stack(squares))


def masks_to_tensor(masks: Sequence[np.ndarray], side: int) -> Tensor:
    """Letterboxes masks, uint8 (height, width) each, into float32 (B, 1, side, side) of 0 and 1."""
    squares = [Letterbox(side=side, height=mask.shape[0], width=mask.shape[1]).mask(mask) for mask in masks]
    return torch.from_numpy(np.stack(squares))[:, None].float() / 255


def probability_back(probability_HW: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Maps a square of probabilities back onto the photo: float32 (height, width) in [0, 1]."""
    box = Letterbox(side=probability_HW.shape[0], height=height, width=width)
    (top, left), (inner_height, inner_width) = box.offset, box.inner_size
    inner = probability_HW[top : top + inner_height, left : left + inner_width]
    # Bilinear on the probabilities, before the threshold: a thresholded mask would show its pixels.
    return cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR)
