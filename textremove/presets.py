"""Names for whole models: what `--segmenter` and `--inpainter` accept, and where their weights are."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from textremove.errors import ConfigError, WeightsError
from textremove.inpaint.protocol import Inpainter
from textremove.removal import Remover
from textremove.segment import members
from textremove.segment.protocol import Segmenter

SD2_INPAINTING = "sd2-community/stable-diffusion-2-inpainting"
"""The paper's base. Its first address, under stabilityai, answers 404 since November 2025; this mirror
holds the same weights."""

GROUNDED_SAM2 = "IDEA-Research/grounding-dino-tiny+facebook/sam2.1-hiera-small"

HUB_SEGMENTERS = {
    "clipseg": "CIDAS/clipseg-rd64-refined",
    "sam3": "facebook/sam3",
    "grounded-sam2": GROUNDED_SAM2,
    # Not SAM 3, though it is the better one: the hub gives it only to whoever asked and was let in.
    "zero-shot": GROUNDED_SAM2,
}
"""Segmenters that were trained elsewhere, and where they are; the first is the paper's baseline."""

SEGMENTERS = ("tiny", "paper", *HUB_SEGMENTERS)
INPAINTERS = ("tiny", "tiny-base", "paper", "zero-shot", "telea", "navier-stokes")

TINY_STEPS = 1
PAPER_STEPS = 50


def shipped(name: str) -> Path:
    """Folder of a model that comes with the package: "segmenter", "inpainter" or "adapter"."""
    return Path(str(files("textremove") / "weights" / "tiny" / name))


def check_models(segmenter: str, inpainter: str, *, adapter: str | None = None) -> None:
    """Complains about names that stand for no model, without loading one: before anything slow starts.

    Raises:
        ConfigError: See `load_segmenter` and `load_inpainter`.
        WeightsError: A folder that holds no model, or a segmenter that the hub does not give.
    """
    if segmenter:
        members.kind_of(_segmenter_source(segmenter))
    _check_inpainter(inpainter, adapter)


def _segmenter_source(name: str) -> str:
    """Folder or hub id of a segmenter, or a pair of them joined by a plus sign."""
    if name == "tiny":
        return str(shipped("segmenter"))
    if name == "paper":
        raise WeightsError(
            "the paper preset has no published segmenter weights; train them with "
            "`python -m jobs.train_segmenter --recipe paper` and give the folder it prints"
        )
    if name in HUB_SEGMENTERS:
        return HUB_SEGMENTERS[name]
    if not all(part and (Path(part).is_dir() or part.count("/") == 1) for part in members.parts_of(name)):
        choices = ", ".join(SEGMENTERS)
        raise ConfigError(f"unknown segmenter {name!r}; choose {choices}, a folder or a hub id")
    return name


def _check_inpainter(name: str, adapter: str | None) -> None:
    from textremove.inpaint.classical import METHODS

    if name in METHODS and adapter is not None:
        raise ConfigError(f"{name} has no weights that an adapter could change; leave the adapter out")
    if name not in INPAINTERS and not Path(name).is_dir() and name.count("/") != 1:
        raise ConfigError(f"unknown inpainter {name!r}; choose {', '.join(INPAINTERS)}, a folder or a hub id")
    if adapter is not None and not Path(adapter).is_dir():
        raise WeightsError(f"no adapter folder at {adapter}")


def load_segmenter(name: str, *, device: str = "cpu") -> Segmenter:
    """Loads a segmenter.

    Args:
        name: "tiny" (comes with the package), "clipseg" (the paper's baseline), "sam3" (gated on the hub),
            "grounded-sam2" (Grounding DINO and SAM 2), "zero-shot" (the same); the folder of a trained
            segmenter or location prior; the hub id or local folder of a CLIPSeg or SAM 3; or
            "DETECTOR+SAM2", two hub ids or folders of a Grounding DINO and a SAM 2.
        device: Where to run it.

    Raises:
        ConfigError: A name that is no preset, no folder and no hub id.
        WeightsError: There is no segmenter, or its weights cannot be loaded.
    """
    return members.load(_segmenter_source(name), device=device)


def load_inpainter(
    name: str, *, adapter: str | None = None, num_steps: int | None = None, device: str = "cpu"
) -> Inpainter:
    """Loads an inpainter.

    Args:
        name: "tiny" (with its adapter, comes with the package), "tiny-base" (without), "paper" or "zero-shot"
            (SD2 inpainting from the hub), "telea" or "navier-stokes" (OpenCV, no weights), the hub id or
            local folder of a 9-channel Stable Diffusion inpainting base.
        adapter: Folder of a LoRA adapter to load into the base; with "tiny", instead of its own.
        num_steps: Denoising steps; the preset's own number when None.
        device: Where to run it.

    Raises:
        ConfigError: A name that is no preset, no folder and no hub id; or an adapter for a classical one.
        WeightsError: The weights cannot be loaded.
    """
    from textremove.inpaint.classical import METHODS, ClassicalInpainter

    _check_inpainter(name, adapter)
    if name in METHODS:
        return ClassicalInpainter(name)
    from textremove.inpaint.diffusion import DiffusionInpainter

    if name in ("tiny", "tiny-base"):
        own = str(shipped("adapter")) if name == "tiny" else None
        return DiffusionInpainter.from_pretrained(
            shipped("inpainter"), adapter=adapter or own, num_steps=num_steps or TINY_STEPS, device=device
        )
    base = resolve_base(name)
    return DiffusionInpainter.from_pretrained(
        base, adapter=adapter, num_steps=num_steps or PAPER_STEPS, device=device
    )


def resolve_base(name: str) -> str:
    """Hub id or folder of the base inpainter that a name stands for: what an adapter is trained on."""
    if name in ("tiny", "tiny-base"):
        return str(shipped("inpainter"))
    return SD2_INPAINTING if name in ("paper", "zero-shot") else name


def load_remover(
    segmenter: str = "tiny",
    inpainter: str = "tiny",
    *,
    adapter: str | None = None,
    num_steps: int | None = None,
    device: str = "cpu",
) -> Remover:
    """Loads a segmenter and an inpainter and puts them together.

    Args:
        segmenter: See `load_segmenter`.
        inpainter: See `load_inpainter`.
        adapter: See `load_inpainter`.
        num_steps: See `load_inpainter`.
        device: Where to run both.

    Raises:
        ConfigError: An unknown name.
        WeightsError: Weights that cannot be loaded.
    """
    return Remover(
        load_segmenter(segmenter, device=device),
        load_inpainter(inpainter, adapter=adapter, num_steps=num_steps, device=device),
    )
