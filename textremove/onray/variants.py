"""The ways of filling holes that an evaluation compares: what each is, how it is loaded and how it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from textremove.attempts import RemovalConfig
from textremove.errors import ConfigError
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions
from textremove.onray.models import absolute
from textremove.presets import shipped

LORA, BASE, CLASSICAL, OURS = "lora", "base", "telea", "ours"

_ONCE = RemovalConfig(verify=False)
_AS_PAINTED = FillConfig(exemplars="never", occluders="never")
_REBUILT = replace(_AS_PAINTED, exemplars="always")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of filling holes: unless said, once, looked at by nobody, and left as it was painted.

    Attributes:
        about: What it is, for a person.
        method: "diffusion", or one of OpenCV's methods.
        adapted: Whether the base has its adapter on.
        options: Of the base.
        fill: How holes are cut and pasted.
        removal: How hard it tries.
    """

    about: str
    method: str = "diffusion"
    adapted: bool = True
    options: DiffusionOptions = DiffusionOptions()
    fill: FillConfig = _AS_PAINTED
    removal: RemovalConfig = _ONCE


VARIANTS: dict[str, Variant] = {
    LORA: Variant(about="the base with its adapter"),
    BASE: Variant(about="the base without adapter", adapted=False),
    CLASSICAL: Variant(about="OpenCV, Telea", method=CLASSICAL),
    "navier-stokes": Variant(about="OpenCV, Navier-Stokes", method="navier-stokes"),
    "base-redirect": Variant(
        about="the base without adapter, attention redirected",
        adapted=False,
        options=DiffusionOptions(redirect=True),
    ),
    "base-contrast": Variant(
        about="the base without adapter, guided away from what unredirected attention paints",
        adapted=False,
        # Of those tried on the tiny base, the one that gains without losing detail (docs/log.md).
        options=DiffusionOptions(redirect=True, redirect_contrast=True, guidance_scale=16.0),
    ),
    "redirect": Variant(about="adapter, attention redirected", options=DiffusionOptions(redirect=True)),
    "undilated": Variant(about="adapter, the mask not grown", fill=replace(_AS_PAINTED, dilation=0.0)),
    "box": Variant(about="adapter, the mask's box filled", fill=replace(_AS_PAINTED, shape="box")),
    "samples": Variant(
        about="adapter, the most typical of four fillings", removal=RemovalConfig(verify=False, samples=4)
    ),
    "verify": Variant(
        about="adapter, looked at again, three attempts", removal=RemovalConfig(verify=True, attempts=3)
    ),
    "exemplars": Variant(about="adapter, rebuilt from patches of the photo", fill=_REBUILT),
    "telea-exemplars": Variant(
        about="OpenCV, Telea, rebuilt from patches of the photo", method=CLASSICAL, fill=_REBUILT
    ),
    "occluders": Variant(
        about="adapter, rebuilt, what stands in front hidden from it",
        fill=replace(_REBUILT, occluders="always"),
    ),
    OURS: Variant(about="everything as it is by default", fill=FillConfig(), removal=RemovalConfig()),
}
"""By what each is called, in reading order. All but "base" have the adapter where there is one."""

DEFAULT = (LORA, BASE, CLASSICAL, OURS)


@dataclass(frozen=True, kw_only=True)
class InpainterSpec:
    """An inpainter to load, as `textremove.presets.load_inpainter` takes it."""

    name: str
    adapter: str | None = None
    num_steps: int | None = None
    options: DiffusionOptions = DiffusionOptions()


@dataclass(frozen=True, kw_only=True)
class Filling:
    """A variant with its models.

    Attributes:
        variant: What is done.
        inpainter: What does it; variants share one that is the same, with the adapter on or off.
    """

    variant: Variant
    inpainter: InpainterSpec

    @property
    def without_adapter(self) -> bool:
        """Whether the inpainter has an adapter that this variant does without."""
        return self.inpainter.adapter is not None and not self.variant.adapted


def named_fillings(
    variants: Sequence[str],
    base: str,
    adapter: str | None,
    num_steps: int | None,
    *,
    with_segmenter: bool,
) -> dict[str, Filling]:
    """The variants asked for with their models; nothing without a base.

    Args:
        variants: Names of VARIANTS; none for those of DEFAULT that can be run.
        base: As `load_inpainter` takes it.
        adapter: Folder of its adapter; for tiny-base, the one that comes with the package unless said.
        num_steps: Denoising steps.
        with_segmenter: Whether there is one to verify with.

    Raises:
        ConfigError: A variant that is not known, named twice, or lacks an adapter or a segmenter.
    """
    if not base:
        return {}
    if adapter is None and base == "tiny-base":
        adapter = str(shipped("adapter"))
    lacks = {
        name: [
            *(["an --adapter"] if name == LORA and adapter is None else []),
            *(["a --segmenter"] if variant.removal.verify and not with_segmenter else []),
        ]
        for name, variant in VARIANTS.items()
    }
    for name in variants:
        if name not in VARIANTS:
            raise ConfigError(f"there is no variant {name!r}; choose from {', '.join(VARIANTS)}")
        if lacks[name]:
            raise ConfigError(f"the variant {name} needs {' and '.join(lacks[name])}")
        if variants.count(name) > 1:
            raise ConfigError(f"--variants names {name} twice; name each once")
    return {
        name: Filling(
            variant=VARIANTS[name],
            inpainter=InpainterSpec(
                name=absolute(base),
                adapter=absolute(adapter) if adapter else None,
                num_steps=num_steps,
                options=VARIANTS[name].options,
            )
            if VARIANTS[name].method == "diffusion"
            else InpainterSpec(name=VARIANTS[name].method),
        )
        for name in variants or [name for name in DEFAULT if not lacks[name]]
    }
