"""Names for whole models: what `--segmenter` and `--inpainter` accept, and where their weights are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from textremove.attempts import RemovalConfig
from textremove.checkpoint import read_manifest
from textremove.errors import ConfigError, WeightsError
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions, check_adapter_names
from textremove.inpaint.protocol import Inpainter
from textremove.removal import Remover
from textremove.segment.protocol import Segmenter

SD2_INPAINTING = "sd2-community/stable-diffusion-2-inpainting"
"""The paper's base. Its first address, under stabilityai, answers 404 since November 2025; this mirror
holds the same weights."""

SEGMENTERS = ("tiny", "paper")
INPAINTERS = ("tiny", "tiny-base", "paper", "telea", "navier-stokes")

TINY_STEPS = 1
PAPER_STEPS = 50


def shipped(name: str) -> Path:
    """Folder of a model that comes with the package: "segmenter", "inpainter" or "adapter"."""
    return Path(str(files("textremove") / "weights" / "tiny" / name))


def check_models(
    segmenter: str,
    inpainter: str,
    *,
    adapter: str | None = None,
    adapters: Mapping[str, str] | None = None,
    num_steps: int | None = None,
    options: DiffusionOptions = DiffusionOptions(),
    samples: int = 1,
) -> None:
    """Complains about names that stand for no model, without loading one: before anything slow starts.

    Args:
        segmenter: See `load_segmenter`; "" when none is needed.
        inpainter: See `load_inpainter`, as for the arguments that follow.
        adapter: A folder.
        adapters: Folders by name.
        num_steps: Denoising steps.
        options: Of a diffusion base.
        samples: Fillings with different seeds, of which the best is to be kept.

    Raises:
        ConfigError: See `load_segmenter` and `load_inpainter`; or several samples of what has no seed.
        WeightsError: A folder that holds no model.
    """
    from textremove.inpaint.classical import METHODS

    if segmenter:
        read_manifest(_segmenter_folder(segmenter))
    if inpainter in METHODS and samples > 1:
        raise ConfigError(f"{inpainter} fills the same with every seed; leave --samples at 1")
    _check_inpainter(inpainter, adapter, adapters or {}, num_steps, options)


def _segmenter_folder(name: str) -> Path:
    if name == "tiny":
        return shipped("segmenter")
    if name == "paper":
        raise WeightsError(
            "the paper preset has no published segmenter weights; train them with "
            "`python -m jobs.train_segmenter --recipe paper` and give the folder it prints"
        )
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(f"unknown segmenter {name!r}; choose tiny, or give the folder of a trained one")
    return folder


def _check_inpainter(
    name: str,
    adapter: str | None,
    adapters: Mapping[str, str],
    num_steps: int | None,
    options: DiffusionOptions,
) -> None:
    from textremove.inpaint.classical import METHODS

    if name in METHODS and (adapter is not None or adapters):
        raise ConfigError(f"{name} has no weights that an adapter could change; leave the adapter out")
    if name in METHODS and (num_steps is not None or options != DiffusionOptions()):
        raise ConfigError(f"{name} takes no steps, words, guidance or redirection; those are for diffusion")
    if num_steps is not None and num_steps < 1:
        raise ConfigError(f"--num-steps must be at least 1, not {num_steps}")
    if name not in INPAINTERS and not Path(name).is_dir() and name.count("/") != 1:
        raise ConfigError(f"unknown inpainter {name!r}; choose {', '.join(INPAINTERS)}, a folder or a hub id")
    check_adapter_names(adapters)
    for folder in (*([] if adapter is None else [adapter]), *adapters.values()):
        if not Path(folder).is_dir():
            raise WeightsError(f"no adapter folder at {folder}")


def load_segmenter(name: str, *, device: str = "cpu") -> Segmenter:
    """Loads a segmenter.

    Args:
        name: "tiny" (comes with the package), or the folder of a trained segmenter.
        device: Where to run it.

    Raises:
        ConfigError: A name that is neither a preset nor a folder.
        WeightsError: The folder is damaged or holds something else.
    """
    from textremove.segment import location_prior
    from textremove.segment.predictors import ConditionedUNetSegmenter

    folder = _segmenter_folder(name)
    if read_manifest(folder)["kind"] == location_prior.KIND:
        return location_prior.LocationPriorSegmenter.from_pretrained(folder)
    return ConditionedUNetSegmenter.from_pretrained(folder, device=device)


def load_inpainter(
    name: str,
    *,
    adapter: str | None = None,
    adapters: Mapping[str, str] | None = None,
    num_steps: int | None = None,
    options: DiffusionOptions = DiffusionOptions(),
    device: str = "cpu",
) -> Inpainter:
    """Loads an inpainter.

    Args:
        name: "tiny" (with its adapter, comes with the package), "tiny-base" (without), "paper" (SD2
            inpainting from the hub), "telea" or "navier-stokes" (OpenCV, no weights), the hub id or local
            folder of a 9-channel Stable Diffusion or SDXL inpainting base.
        adapter: Folder of a LoRA adapter to load into the base; with "tiny", instead of its own.
        adapters: Folders of more of them by name, one of which `Inpainter.using` chooses.
        num_steps: Denoising steps; the preset's own number when None.
        options: Words, guidance and redirection of a diffusion base.
        device: Where to run it.

    Raises:
        ConfigError: A name that is no preset, no folder and no hub id; or what a classical one does not use.
        WeightsError: The weights cannot be loaded.
    """
    from textremove.inpaint.classical import METHODS, ClassicalInpainter

    _check_inpainter(name, adapter, adapters or {}, num_steps, options)
    if name in METHODS:
        return ClassicalInpainter(name)
    from textremove.inpaint.diffusion import DiffusionInpainter

    tiny = name in ("tiny", "tiny-base")
    if name == "tiny":
        adapter = adapter or str(shipped("adapter"))
    return DiffusionInpainter.from_pretrained(
        resolve_base(name),
        adapter=adapter,
        adapters=adapters,
        num_steps=num_steps or (TINY_STEPS if tiny else PAPER_STEPS),
        options=options,
        device=device,
    )


def resolve_base(name: str) -> str:
    """Hub id or folder of the base inpainter that a name stands for: what an adapter is trained on."""
    if name in ("tiny", "tiny-base"):
        return str(shipped("inpainter"))
    return SD2_INPAINTING if name == "paper" else name


def load_remover(
    segmenter: str = "tiny",
    inpainter: str = "tiny",
    *,
    adapter: str | None = None,
    adapters: Mapping[str, str] | None = None,
    num_steps: int | None = None,
    options: DiffusionOptions = DiffusionOptions(),
    fill: FillConfig = FillConfig(),
    config: RemovalConfig = RemovalConfig(),
    device: str = "cpu",
) -> Remover:
    """Loads a segmenter and an inpainter and puts them together.

    Args:
        segmenter: See `load_segmenter`.
        inpainter: See `load_inpainter`, as for the next four.
        adapter: A folder.
        adapters: Folders by name.
        num_steps: Denoising steps.
        options: Of a diffusion base.
        fill: How holes are cut out and pasted back.
        config: How hard to try.
        device: Where to run both.

    Raises:
        ConfigError: An unknown name, or settings that do not go together.
        WeightsError: Weights that cannot be loaded.
    """
    check_models(
        segmenter,
        inpainter,
        adapter=adapter,
        adapters=adapters,
        num_steps=num_steps,
        options=options,
        samples=config.samples,
    )
    loaded = load_inpainter(
        inpainter, adapter=adapter, adapters=adapters, num_steps=num_steps, options=options, device=device
    )
    return Remover(load_segmenter(segmenter, device=device), loaded, fill, config)
