"""What can be asked of a diffusion inpainter beside steps and adapter. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from textremove.errors import ConfigError

MAX_GUIDANCE = 30.0

DEFAULT = "default"
"""Name of the adapter that is used when none is asked for."""
BASE = "base"
"""What asks for no adapter."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_adapter_names(names: Iterable[str]) -> None:
    """Complains about what cannot be the name of one of several adapters. Raises ConfigError."""
    for name in names:
        if not _NAME.fullmatch(name) or name in (BASE, DEFAULT):
            raise ConfigError(
                f"an adapter cannot be called {name!r}; letters, digits, - and _ make a name, "
                f"{BASE!r} stands for no adapter and {DEFAULT!r} for the one that is used unasked"
            )


@dataclass(frozen=True, kw_only=True)
class DiffusionOptions:
    """How a diffusion base is kept from painting a new object; by default as in the paper, at half the work.

    Attributes:
        positive_prompt: What to fill with, for bases that know text. The paper fills without words.
        negative_prompt: What not to fill with, such as "object, person"; works through guidance.
        guidance_scale: Weight of classifier-free guidance. 1 costs one pass of the UNet a step, more costs
            two. With equal prompts, as the two empty ones, both passes are the same and nothing is gained,
            except by redirect_contrast.
        redirect: Whether what is painted in a hole is kept from looking at the hole.
        redirect_until: The share of the denoising steps, from the first on, in which it is.
        redirect_min_tokens: Attentions over fewer pixels than this are left alone.
        redirect_coverage: A cell of an attention is hole when more than this share of it is.
        redirect_contrast: Whether guidance leads away from what is painted in the hole when it looks at the
            hole. Works through guidance, also with two empty prompts.

    Raises:
        ConfigError: A number out of range, or what works through guidance without it.
    """

    positive_prompt: str = ""
    negative_prompt: str = ""
    guidance_scale: float = 1.0
    redirect: bool = False
    redirect_until: float = 1.0
    redirect_min_tokens: int = 0
    redirect_coverage: float = 0.5
    redirect_contrast: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.guidance_scale <= MAX_GUIDANCE:
            raise ConfigError(
                f"--guidance-scale must lie in [1, {MAX_GUIDANCE:.0f}], not {self.guidance_scale}"
            )
        if self.negative_prompt and self.guidance_scale == 1:
            raise ConfigError(
                "--negative-prompt works through guidance; give --guidance-scale too, such as 7.5"
            )
        if self.redirect_contrast and not (self.redirect and self.guidance_scale > 1):
            raise ConfigError(
                "--redirect-contrast is a guidance by redirection; give --redirect and --guidance-scale too, "
                "such as 3"
            )
        if not 0 < self.redirect_until <= 1:
            raise ConfigError(f"--redirect-until must lie in (0, 1], not {self.redirect_until}")
        if not 0 <= self.redirect_coverage < 1:
            raise ConfigError(f"--redirect-coverage must lie in [0, 1), not {self.redirect_coverage}")
        if self.redirect_min_tokens < 0:
            raise ConfigError(f"--redirect-min-tokens must be 0 or more, not {self.redirect_min_tokens}")
