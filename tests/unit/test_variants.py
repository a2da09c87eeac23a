from __future__ import annotations

import re

import numpy as np
import pytest

from textremove.attempts import RemovalConfig
from textremove.errors import ConfigError
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions
from textremove.inpaint.perceptual import NetworkWeights
from textremove.onray.evaluate import EvaluateJob
from textremove.onray.filling_scorer import FillingScorer, example_seed
from textremove.onray.variants import BASE, LORA, OURS, VARIANTS, Filling, named_fillings
from textremove.segment.protocol import Segmentation


def test_by_default_base_adapter_classical_and_ours_are_compared() -> None:
    named = named_fillings((), "tiny-base", None, 2, with_segmenter=True)
    assert list(named) == ["lora", "base", "telea", "ours"]
    assert named[LORA].inpainter == named[BASE].inpainter == named[OURS].inpainter  # loaded once
    assert named[LORA].inpainter.adapter
    assert [named[name].without_adapter for name in named] == [False, True, False, False]
    assert (named[LORA].inpainter.num_steps, named["telea"].inpainter.num_steps) == (2, None)
    assert list(named_fillings((), "somebody/base", None, None, with_segmenter=False)) == ["base", "telea"]
    assert named_fillings((), "", None, None, with_segmenter=True) == {}


def test_what_a_variant_lacks_is_told() -> None:
    for names, base, with_segmenter, said in (
        (("lora",), "somebody/base", True, "the variant lora needs an --adapter"),
        (("ours",), "tiny-base", False, "the variant ours needs a --segmenter"),
        (("base", "base"), "tiny-base", True, "names base twice"),
        (("sharp",), "tiny-base", True, "no variant 'sharp'; choose from lora, base"),
    ):
        with pytest.raises(ConfigError, match=said):
            named_fillings(names, base, None, None, with_segmenter=with_segmenter)


def test_each_option_differs_from_the_adapter_alone_in_itself_only() -> None:
    plain = VARIANTS[LORA]
    for name, field in (
        ("redirect", "options"), ("undilated", "fill"), ("box", "fill"), ("samples", "removal"),
        ("verify", "removal"), ("base", "adapted"), ("exemplars", "fill"), ("occluders", "fill"),
    ):  # fmt: skip
        differing = {
            key for key in ("method", "adapted", "options", "fill", "removal")
            if getattr(VARIANTS[name], key) != getattr(plain, key)
        }  # fmt: skip
        assert differing == {field}, name
    ours = VARIANTS[OURS]
    assert (ours.options, ours.fill, ours.removal) == (DiffusionOptions(), FillConfig(), RemovalConfig())


def test_the_help_names_every_variant() -> None:
    said = re.search(r"variants: Ways of filling holes, of: (.*?)\.", str(EvaluateJob.__doc__), re.DOTALL)
    assert said
    assert " ".join(said[1].split()) == ", ".join(VARIANTS)


class Seer:
    """Finds whatever is red."""

    def segment(self, images: list[np.ndarray], prompts: list[str]) -> list[Segmentation]:
        found = []
        for image in images:
            red = (image[..., 0] > 200) & (image[..., 1] < 90)
            mask = np.where(red, 255, 0).astype(np.uint8)
            found.append(Segmentation(mask=mask, raw=mask, score=0.9, found=bool(mask.any())))
        return found


def scene(ground: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = np.full((48, 64, 3), ground, np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[16:32, 20:36] = 255
    image = truth.copy()
    image[mask > 0] = (255, 0, 0)
    return image, mask, truth


def scorer(names: tuple[str, ...], segmenter: Seer | None) -> FillingScorer:
    fillings: dict[str, Filling] = named_fillings(names, "telea", None, None, with_segmenter=True)
    return FillingScorer(fillings, NetworkWeights(), segmenter)


def test_a_removal_succeeds_when_what_was_found_is_no_longer() -> None:
    image, mask, truth = scene()
    exact = ("navier-stokes", "telea-exemplars")  # Telea alone is up to a level off on flat ground
    (clean, seen), looks = scorer(exact, Seer()).score(image, mask, truth, "box", 3)
    assert not looks.size  # no network, no local FID
    for row in (clean, seen):
        assert (row["found_before"], row["truth_success"], row["success"]) == (True, True, True)
        assert (row["outside"], row["attempts"], row["seed"], row["num_pixels"]) == (0, 1, 3, 256)
        assert row["psnr"] == pytest.approx(100)
        assert row["ssim"] == pytest.approx(1, abs=1e-3)
    # A mask that leaves the object's rim standing: the filling smears it into the hole.
    image[8:40, 12:44] = (255, 0, 0)
    (row,), _ = scorer(("telea",), Seer()).score(image, mask, truth, "box", 3)
    assert (row["found_before"], row["success"], row["truth_success"]) == (True, False, True)


def test_what_is_not_found_before_can_not_succeed_nor_what_nobody_looks_at() -> None:
    image, mask, truth = scene()
    image[mask > 0] = (0, 0, 255)
    (row,), _ = scorer(("telea",), Seer()).score(image, mask, truth, "box", 3)
    assert (row["found_before"], row["success"], row["truth_success"]) == (False, None, None)
    (row,), _ = scorer(("telea",), None).score(image, mask, truth, "box", 3)
    assert (row["found_before"], row["success"], row["truth_success"]) == (None, None, None)


def test_verifying_tries_again_and_changes_nothing_outside() -> None:
    image, mask, truth = scene()
    image[4:44, 8:48] = (255, 0, 0)  # the mask is too small by twelve pixels all around
    names = ("telea",)
    fillings = named_fillings(names, "telea", None, None, with_segmenter=True)
    fillings["verify"] = Filling(variant=VARIANTS["verify"], inpainter=fillings["telea"].inpainter)
    (once, verified), _ = FillingScorer(fillings, NetworkWeights(), Seer()).score(
        image, mask, truth, "box", 3
    )
    assert (once["attempts"], once["success"]) == (1, False)
    assert verified["attempts"] == 3
    assert once["outside"] == verified["outside"] == 0
    assert verified["seconds"] > once["seconds"]


def test_seeds_are_of_the_example_and_of_nothing_else() -> None:
    assert example_seed(0, "a") == example_seed(0, "a")
    assert len({example_seed(0, "a"), example_seed(0, "b"), example_seed(1, "a")}) == 3
