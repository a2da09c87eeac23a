"""How near a filling comes to what truly lay behind: PSNR and SSIM in the mask and in a band around it.

The crop of a hole is the square that shows it with as much context as filling gives it by default. The
band around the mask is a tenth of the crop wide: there a seam would be, and nothing should have changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from textremove.inpaint.crop import FillConfig
from textremove.inpaint.masks import dilate
from textremove.inpaint.window import Window, choose_window

PERFECT = 100.0
"""What a filling without any error is given, in dB, so that means stay finite."""

BAND = 0.1
"""Width of the band around the mask, as a share of the crop's side."""

_SSIM_REACH = 5  # pixels from the middle of SSIM's window to its edge, 11 x 11 as in Wang et al. 2004


def in_mask_error(filled: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean squared error over the pixels of the true mask, in squared grey levels of 255.

    Args:
        filled: RGB uint8 (height, width, 3).
        truth: RGB uint8 (height, width, 3), the photo without the object.
        mask: uint8 (height, width), not empty; the true mask, not as it was grown for filling.

    Raises:
        ValueError: The mask is empty: there is nothing to measure.
    """
    inside = mask != 0
    if not inside.any():
        raise ValueError("the mask is empty")
    return float(np.square(filled[inside].astype(np.float64) - truth[inside]).mean())


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error in squared grey levels; at most PERFECT."""
    if mean_squared_error <= 0:
        return PERFECT
    return min(PERFECT, 10 * math.log10(255**2 / mean_squared_error))


def pooled_psnr(errors: Iterable[float], num_pixels: Iterable[int]) -> float:
    """PSNR of all masked pixels of all samples together, so that large holes count for more.

    Args:
        errors: `in_mask_error` of each sample.
        num_pixels: Pixels in each sample's mask.
    """
    weights = np.fromiter(num_pixels, np.float64)
    return psnr(float(np.average(np.fromiter(errors, np.float64), weights=weights)))


def hole_crop(mask: np.ndarray) -> Window:
    """The square around a mask that its local scores look at, whatever the inpainter's resolution.

    Args:
        mask: uint8 (height, width), not empty; the true mask.
    """
    left, top, width, height = cv2.boundingRect(mask)
    box = (left, top, left + width, top + height)
    return choose_window(box, mask.shape, resolution=1, context=FillConfig().context)


def band_around(mask: np.ndarray) -> np.ndarray:
    """The pixels outside a mask that are nearer to it than BAND of its crop: uint8 (height, width), 0 or 255.

    Args:
        mask: uint8 (height, width), not empty. One that covers everything has no band: all 0.
    """
    width = max(1, round(BAND * hole_crop(mask).side))
    return np.where(mask > 0, 0, dilate(mask, width)).astype(np.uint8)


def ssim_in(filled: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float | None:
    """Mean structural similarity at the pixels of a mask, in [-1, 1]; None where a photo is too small for it.

    Gaussian windows of 11 x 11 pixels, each channel by itself (Wang et al. 2004, as torchmetrics has it). The
    windows of pixels at the rim of the mask look beyond it.

    Args:
        filled: RGB uint8 (height, width, 3).
        truth: RGB uint8 (height, width, 3).
        mask: uint8 (height, width), not empty: the hole, or the band around it.
    """
    height, width = mask.shape
    if min(height, width) <= _SSIM_REACH:
        return None
    left, top, across, down = cv2.boundingRect(mask)
    # Only what the windows reach, widened where that is less than a window: photos are large, holes small.
    reach = 2 * _SSIM_REACH
    part = np.s_[max(0, top - reach) : top + down + reach, max(0, left - reach) : left + across + reach]
    filled_1CHW, truth_1CHW = (
        torch.from_numpy(image[part].transpose(2, 0, 1)[None].astype(np.float32)) for image in (filled, truth)
    )
    _, map_1CHW = structural_similarity_index_measure(
        filled_1CHW, truth_1CHW, data_range=255.0, return_full_image=True
    )
    return float(map_1CHW[0].mean(dim=0).numpy()[mask[part] > 0].mean())


def outside_difference(filled: np.ndarray, photo: np.ndarray, changeable: np.ndarray) -> int:
    """Largest difference to the photo, in grey levels, where nothing may change: 0 when all is as promised.

    Args:
        filled: RGB uint8 (height, width, 3).
        photo: RGB uint8 (height, width, 3), the input.
        changeable: bool (height, width), see `textremove.inpaint.crop.changeable`.
    """
    return int(cv2.absdiff(filled, photo)[~changeable].max(initial=0))
