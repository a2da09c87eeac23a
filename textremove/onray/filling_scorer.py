"""Fills one example's hole in every way that is compared, and scores what comes of it. No Ray of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from textremove.attempts import Filled, fill_in_attempts, still_there
from textremove.inpaint.crop import changeable
from textremove.inpaint.masks import dilate
from textremove.inpaint.metrics import band_around, in_mask_error, outside_difference, psnr, ssim_in
from textremove.inpaint.perceptual import NetworkWeights, PerceptualScorer
from textremove.inpaint.protocol import Inpainter
from textremove.onray.variants import BASE, Filling, InpainterSpec
from textremove.presets import load_inpainter
from textremove.removal import answer_calls, prompt_to_verify, run_side_by_side
from textremove.segment.protocol import Segmenter


def example_seed(seed: int, example_id: str) -> int:
    """The seed of one example's fillings: the same in every run and for every variant."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{example_id}".encode()).digest()[:4], "big")


class FillingScorer:
    """Fills and scores with true masks, so that only the filling is measured.

    Args:
        fillings: The variants by name.
        weights: Of scores that look through networks.
        segmenter: Verifies, and says whether a removal succeeded; without one nothing says so.
        device: Where to run.

    Raises:
        UserError: A model cannot be loaded.
    """

    def __init__(
        self,
        fillings: Mapping[str, Filling],
        weights: NetworkWeights,
        segmenter: Segmenter | None,
        *,
        device: str = "cpu",
    ) -> None:
        self.fillings = fillings
        self._segmenter = segmenter
        self._perceptual = PerceptualScorer(weights, device=device)
        loaded: dict[InpainterSpec, Inpainter] = {}
        self._inpainters: dict[str, Inpainter] = {}
        for name, filling in fillings.items():
            spec = filling.inpainter
            if spec not in loaded:
                loaded[spec] = load_inpainter(
                    spec.name,
                    adapter=spec.adapter,
                    num_steps=spec.num_steps,
                    options=spec.options,
                    device=device,
                )
            one = loaded[spec]
            self._inpainters[name] = one.using(BASE) if filling.without_adapter else one

    def fill(self, name: str, image: np.ndarray, mask: np.ndarray, prompt: str, seed: int) -> Filled:
        """Fills a hole in one way.

        Args:
            name: Of the variant.
            image: RGB uint8 (height, width, 3).
            mask: uint8 (height, width), the true mask.
            prompt: What is removed.
            seed: Of the first filling.
        """
        variant = self.fillings[name].variant
        steps = fill_in_attempts(image, mask, prompt_to_verify(prompt), seed=seed, config=variant.removal)
        (filled,) = run_side_by_side(
            [steps],
            lambda calls: answer_calls(calls, self._segmenter, self._inpainters[name], variant.fill),
        )
        if isinstance(filled, Exception):
            raise filled
        return filled

    def score(
        self, image: np.ndarray, mask: np.ndarray, truth: np.ndarray, prompt: str, seed: int
    ) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Scores every variant on one example; shapes as in `fill`, the truth as the image.

        Returns:
            One row for each variant. "success" is None where nothing could succeed: the segmenter does not
            find the object in the input either, or there is none. Then what local FID goes by, of the truth
            and of each filling: float32 (1 + variants, width), empty without its network.
        """
        found_before = self._finds(image, prompt, mask)
        about = {
            "seed": seed,
            "num_pixels": int(np.count_nonzero(mask)),
            "found_before": found_before,
            "truth_success": not self._finds(truth, prompt, mask) if found_before else None,
        }
        rows, images = [], [truth]
        for name in self.fillings:
            started = time.perf_counter()
            filled = self.fill(name, image, mask, prompt, seed)
            row = {"inpainter": name, "seconds": time.perf_counter() - started} | about
            row |= {"attempts": len(filled.attempts), "kept_seed": filled.seed}
            row["success"] = not self._finds(filled.image, prompt, mask) if found_before else None
            row["outside"] = outside_difference(filled.image, image, self._changeable(name, mask, filled))
            rows.append(row | pixel_scores(filled.image, truth, mask))
            rows[-1] |= self._perceptual.scores(filled.image, truth, mask)
            images.append(filled.image)
        return rows, self._perceptual.looks(images, mask)

    def _finds(self, image: np.ndarray, prompt: str, mask: np.ndarray) -> bool | None:
        """Whether the prompt finds the object where it was: the rule that verification goes by."""
        asked = prompt_to_verify(prompt)
        if self._segmenter is None or asked is None:
            return None
        return still_there(self._segmenter.segment([image], [asked])[0], mask) > 0

    def _changeable(self, name: str, mask: np.ndarray, filled: Filled) -> np.ndarray:
        growth = next(attempt.growth for attempt in filled.attempts if filled.seed in attempt.seeds)
        return changeable(
            dilate(mask, growth),
            resolution=self._inpainters[name].resolution,
            config=self.fillings[name].variant.fill,
        )


def pixel_scores(filled: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float | None]:
    """PSNR and SSIM in the mask and in the band around it; None where there are no such pixels."""
    error, band = in_mask_error(filled, truth, mask), band_around(mask)
    scores: dict[str, float | None] = {"squared_error": error, "psnr": psnr(error)}
    scores["ssim"] = ssim_in(filled, truth, mask)
    has_band = bool(band.any())
    scores["band_psnr"] = psnr(in_mask_error(filled, truth, band)) if has_band else None
    scores["band_ssim"] = ssim_in(filled, truth, band) if has_band else None
    return scores
