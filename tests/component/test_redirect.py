"""Redirected attention: the hole's queries pass over the hole's keys, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from textremove.inpaint.base import load_base
from textremove.inpaint.diffusion import DiffusionInpainter
from textremove.inpaint.options import DiffusionOptions
from textremove.inpaint.redirect import Redirection, hole_bias


def _hole(side: int = 32) -> torch.Tensor:
    hole_B1HW = torch.zeros(1, 1, side, side)
    hole_B1HW[:, :, side // 4 : side // 2, side // 4 : side // 2] = 1
    return hole_B1HW


def test_only_pairs_inside_the_hole_are_hidden() -> None:
    bias_BNN = hole_bias(_hole(), 64)
    hole_N = (torch.nn.functional.avg_pool2d(_hole(), 4) > 0.5).flatten()
    assert hole_N.sum() == 4
    hidden_NN = hole_N[:, None] & hole_N[None, :]
    assert torch.equal(bias_BNN[0] < 0, hidden_NN)
    assert torch.equal(bias_BNN[0][~hidden_NN], torch.zeros(64 * 64 - 16))


def test_shapes_other_than_squares_and_holes_without_surroundings() -> None:
    assert hole_bias(torch.ones(2, 1, 16, 16), 64).eq(0).all()
    assert hole_bias(torch.zeros(1, 1, 24, 48), 18).shape == (1, 18, 18)


def test_what_is_in_the_hole_does_not_reach_the_hole(random_base: Path) -> None:
    """Perturbing one hole pixel's features changes no other hole pixel's attention output."""
    unet = load_base(random_base).unet
    name = next(name for name in unet.attn_processors if ".attn1." in name)
    attention = unet.get_submodule(name.removesuffix(".processor"))
    generator = torch.Generator().manual_seed(0)
    hidden_BND = torch.randn(1, 64, attention.to_q.in_features, generator=generator)
    hole_N = torch.zeros(64, dtype=torch.bool)
    hole_N[[18, 19, 26, 27]] = True
    other_BND = hidden_BND.clone()
    other_BND[0, 18] += 5
    with torch.no_grad(), Redirection(unet).around(_hole()):
        first, second = attention(hidden_BND), attention(other_BND)
    changed_N = (first - second).abs().amax(dim=(0, 2)) > 1e-6
    assert not changed_N[[19, 26, 27]].any()
    assert changed_N[~hole_N].all()
    with torch.no_grad():
        plain = (attention(hidden_BND) - attention(other_BND)).abs().amax(dim=(0, 2)) > 1e-6
    assert plain[[19, 26, 27]].all()  # and outside the block the UNet is as it was


def test_contrast_redirects_the_guided_half_alone(random_base: Path) -> None:
    unet = load_base(random_base).unet
    name = next(name for name in unet.attn_processors if ".attn1." in name)
    attention = unet.get_submodule(name.removesuffix(".processor"))
    hidden_BND = torch.randn(1, 64, attention.to_q.in_features, generator=torch.Generator().manual_seed(0))
    twice_BND = hidden_BND.repeat(2, 1, 1)
    with torch.no_grad():
        plain_BND = attention(hidden_BND)
        with Redirection(unet).around(_hole()):
            redirected_BND, both_BND = attention(hidden_BND), attention(twice_BND)
        with Redirection(unet, contrast=True).around(_hole()):
            contrast_BND = attention(twice_BND)
    assert not torch.allclose(plain_BND, redirected_BND, atol=1e-3)
    torch.testing.assert_close(both_BND, torch.cat([redirected_BND, redirected_BND]))
    torch.testing.assert_close(contrast_BND, torch.cat([plain_BND, redirected_BND]))


@pytest.mark.parametrize(
    ("options", "same"),
    [
        (DiffusionOptions(redirect=True), False),
        (DiffusionOptions(redirect=True, redirect_contrast=True, guidance_scale=4.0), False),
        (DiffusionOptions(redirect=True, redirect_min_tokens=10**6), True),
    ],
)
def test_pixels_change_and_come_back(random_base: Path, options: DiffusionOptions, same: bool) -> None:
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[30:90, 40:80] = 255

    def fill(options: DiffusionOptions) -> np.ndarray:
        inpainter = DiffusionInpainter(load_base(random_base), num_steps=3, options=options)
        first, again = (inpainter.inpaint([image], [mask], [0])[0] for _ in range(2))
        assert np.array_equal(first, again)
        return first

    assert np.array_equal(fill(options), fill(DiffusionOptions())) == same
    if not same:  # stopped after the first of three steps it is something else again
        assert not np.array_equal(fill(options), fill(replace(options, redirect_until=0.3)))


def test_a_cell_counts_as_hole_from_the_coverage_asked_for() -> None:
    hole_B1HW = torch.zeros(1, 1, 32, 32)
    hole_B1HW[:, :, 8:17, 8:17] = 1  # reaches one row and column into cells of 4x4
    counts = [int((hole_bias(hole_B1HW, 64, coverage=c) < 0).any(dim=2).sum()) for c in (0.5, 0.2, 0.0)]
    assert counts == [4, 8, 9]


def test_with_guidance_and_several_pictures_each_has_its_own_hole(random_base: Path) -> None:
    pixels = np.random.default_rng(0)
    images = [pixels.integers(0, 255, (128, 128, 3), np.uint8) for _ in range(2)]
    masks = [np.zeros((128, 128), np.uint8) for _ in range(2)]
    masks[0][10:60, 10:60], masks[1][60:120, 40:80] = 255, 255
    options = DiffusionOptions(redirect=True, negative_prompt="ball", guidance_scale=3.0)
    together, alone = (
        DiffusionInpainter(load_base(random_base), num_steps=2, batch_size=size, options=options).inpaint(
            images, masks, [0, 1]
        )
        for size in (2, 1)
    )
    for one, other in zip(together, alone, strict=True):
        # Kernels for larger batches round otherwise; a wrong hole would show as a difference of many levels.
        assert np.abs(one.astype(int) - other).max() <= 1
