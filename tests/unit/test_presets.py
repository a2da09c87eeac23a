"""Settings that do not go together are one line before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from textremove.errors import ConfigError, UserError
from textremove.inpaint.classical import ClassicalInpainter
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions
from textremove.presets import check_models


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"inpainter": "telea", "samples": 2}, "telea fills the same with every seed"),
        ({"inpainter": "telea", "num_steps": 4}, "telea takes no steps, words, guidance or redirection"),
        ({"inpainter": "navier-stokes", "options": DiffusionOptions(guidance_scale=7.5)}, "takes no steps"),
        ({"inpainter": "telea", "options": DiffusionOptions(redirect=True)}, "takes no steps"),
        ({"inpainter": "telea", "adapters": {"a": "b"}}, "leave the adapter out"),
        ({"inpainter": "tiny", "num_steps": 0}, "--num-steps must be at least 1"),
        ({"inpainter": "tiny", "adapter": "nowhere/at/all"}, "no adapter folder at nowhere/at/all"),
        ({"inpainter": "tiny", "adapters": {"people": "nowhere"}}, "no adapter folder at nowhere"),
        ({"inpainter": "tiny", "adapters": {"base": "."}}, "an adapter cannot be called 'base'"),
        ({"inpainter": "tiny", "adapters": {"default": "."}}, "an adapter cannot be called 'default'"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, object], line: str) -> None:
    with pytest.raises(UserError, match=line):
        check_models("", **settings)


def test_what_goes_together_is_not(tmp_path: Path) -> None:
    check_models("tiny", "telea")
    check_models("", "tiny", samples=4, num_steps=2, adapters={"people": str(tmp_path)})


def test_a_classical_inpainter_has_no_adapters_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="telea has no adapters; leave the adapter 'people' out"):
        ClassicalInpainter().using("people")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"context": 0.5}, r"--context must lie in \[1, 10\], not 0.5"),
        ({"dilation": -1}, r"--dilation must lie in \[0, 0.5\], not -1"),
        ({"feather": 2.0}, r"--feather must lie in \[0, 0.5\], not 2.0"),
        ({"shape": "circle"}, "--shape must be mask or box, not 'circle'"),
        ({"exemplars": "yes"}, "--exemplars must be auto, always or never, not 'yes'"),
        ({"occluders": ""}, "--occluders must be auto, always or never, not ''"),
    ],
)
def test_fill_settings_out_of_range_are_one_line(wrong: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        FillConfig(**wrong)
