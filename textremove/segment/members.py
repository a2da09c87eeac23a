"""Every segmenter there is, told apart by what its folder or hub id holds, and loaded."""

from __future__ import annotations

from pathlib import Path

from textremove.checkpoint import MANIFEST_FILE, read_manifest
from textremove.errors import WeightsError
from textremove.segment import location_prior
from textremove.segment.protocol import Segmenter

_CLIPSEG, _SAM3, _DETECTOR, _SAM2 = "clipseg", "sam3", "grounding-dino", "sam2"
_PAIR = f"{_DETECTOR}+{_SAM2}"

# The published SAM 2.1 and SAM 3 are video models that hold the image model, and say so.
_IMAGE_MODELS = {"sam2_video": _SAM2, "sam3_video": _SAM3}


def kind_of(source: str) -> str:
    """Finds out what kind of segmenter a source holds, before its weights are loaded.

    Args:
        source: The folder of a segmenter trained here; a local folder in the hub's layout, or a hub id; or
            two of them, "DETECTOR+SAM2".

    Raises:
        WeightsError: It holds no segmenter, or the hub does not give it.
    """
    kind = "+".join(_kind_of_one(part) for part in parts_of(source))
    if kind in (_DETECTOR, _SAM2):
        raise WeightsError(
            f"{source} is one half of a segmenter; give a Grounding DINO and a SAM 2 joined by a plus sign"
        )
    from textremove.segment.conditioned_unet import KIND as CONDITIONED_UNET

    known = (CONDITIONED_UNET, location_prior.KIND, _CLIPSEG, _SAM3, _PAIR)
    if kind not in known:
        raise WeightsError(f"{source} holds a {kind}, no segmenter; segmenters are {', '.join(known)}")
    return kind


def load(source: str, *, device: str = "cpu") -> Segmenter:
    """Loads a segmenter.

    Args:
        source: As `kind_of` takes it.
        device: Where to run it.

    Raises:
        WeightsError: See `kind_of`; or the weights are damaged or incomplete.
    """
    kind = kind_of(source)
    if kind == location_prior.KIND:
        return location_prior.LocationPriorSegmenter.from_pretrained(source)
    if kind == _CLIPSEG:
        from textremove.segment.clipseg import ClipSegSegmenter

        return ClipSegSegmenter.from_pretrained(source, device=device)
    if kind == _SAM3:
        from textremove.segment.sam3 import Sam3Segmenter

        return Sam3Segmenter.from_pretrained(source, device=device)
    if kind == _PAIR:
        from textremove.segment.grounded_sam2 import GroundedSam2Segmenter

        return GroundedSam2Segmenter.from_pretrained(*parts_of(source), device=device)
    from textremove.segment.predictors import ConditionedUNetSegmenter

    return ConditionedUNetSegmenter.from_pretrained(source, device=device)


def parts_of(source: str) -> list[str]:
    """Takes a pair "DETECTOR+SAM2" apart; a folder, whatever its name, and a hub id are one part."""
    return [source] if Path(source).is_dir() else source.split("+")


def _kind_of_one(source: str) -> str:
    folder = Path(source)
    if (folder / MANIFEST_FILE).is_file():
        return str(read_manifest(folder)["kind"])
    from textremove.segment.hub import CONFIG_FILE, model_type

    if folder.is_dir() and not (folder / CONFIG_FILE).is_file():
        raise WeightsError(
            f"{folder} has neither a {MANIFEST_FILE} nor a {CONFIG_FILE}; it holds no segmenter"
        )
    kind = model_type(source)
    return _IMAGE_MODELS.get(kind, kind)
