"""Scores that look through networks: LPIPS, ReMOVE, local FID. Each where its weights are, else not.

Nothing is downloaded: a score that waits for a network that is not there would stop an evaluation.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from textremove.errors import ConfigError, WeightsError
from textremove.inpaint.crop import cut_image, cut_mask
from textremove.inpaint.frechet import LOCAL_FID
from textremove.inpaint.metrics import band_around, hole_crop
from textremove.inpaint.window import Window

VIT = "facebook/dinov2-small"
"""Looked for in the hub's cache when no other is named."""

ALEXNET = "checkpoints/alexnet-owt-7be5be79.pth"
"""LPIPS's backbone as torchvision keeps it, in torch's own cache. Its heads come with torchmetrics."""

INCEPTION = "checkpoints/inception_v3_google-0cc3c7bd.pth"
"""Local FID's network as torchvision keeps it. Published FIDs look through another training of it, so they
and ours cannot be compared."""

LPIPS, REMOVE = "lpips", "remove"

_LPIPS_SIDE = 256  # pixels: every crop is seen at the same size
_INCEPTION_SIDE = 299
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet; of ViTs that do not say otherwise


@dataclass(frozen=True, kw_only=True)
class NetworkWeights:
    """Where the weights of perceptual scores are.

    Attributes:
        torch_cache: Folder laid out as torch's cache, with LPIPS's backbone in it; "" for no LPIPS.
        vit: Folder of a ViT in the hub's layout, for ReMOVE; "" for no ReMOVE.
        inception: File of local FID's network; "" for no local FID.
        absent: Why a score is not there, in words, by its name.
    """

    torch_cache: str = ""
    vit: str = ""
    inception: str = ""
    absent: dict[str, str] = field(default_factory=dict)


def find_weights(torch_cache: str | None = None, vit: str | None = None) -> NetworkWeights:
    """Looks which weights are on this machine.

    Args:
        torch_cache: Folder laid out as torch's cache; by default that cache.
        vit: Folder, or hub id that is in the hub's cache; VIT by default.

    Raises:
        ConfigError: Something was named that is not there. What was not named may be absent.
    """
    from huggingface_hub import snapshot_download

    absent = {}
    cache = Path(torch_cache or torch.hub.get_dir()).resolve()
    if not (cache / ALEXNET).is_file():
        if torch_cache:
            raise ConfigError(f"{torch_cache} has no {ALEXNET}, which LPIPS needs; torchvision downloads it")
        absent[LPIPS] = f"its backbone, torchvision's {Path(ALEXNET).name}, is not in torch's cache"
    if not (cache / INCEPTION).is_file():
        absent[LOCAL_FID] = f"its network, torchvision's {Path(INCEPTION).name}, is not in torch's cache"
    folder = vit or VIT
    if not Path(folder).is_dir():
        try:
            folder = snapshot_download(folder, local_files_only=True)
        except (OSError, ValueError):  # not there; or no name of a repository
            if vit:
                raise ConfigError(f"{vit} is no folder, and not in the hub's cache") from None
            absent[REMOVE] = f"its ViT, {VIT}, is not in the hub's cache"
    return NetworkWeights(
        torch_cache="" if LPIPS in absent else str(cache),
        vit="" if REMOVE in absent else str(Path(folder).resolve()),
        inception="" if LOCAL_FID in absent else str(cache / INCEPTION),
        absent=absent,
    )


class PerceptualScorer:
    """Scores fillings through whichever networks are there.

    Args:
        weights: What is there.
        device: Where to run.

    Raises:
        WeightsError: What is there cannot be loaded.
    """

    def __init__(self, weights: NetworkWeights, *, device: str = "cpu") -> None:
        self._device = device
        self._lpips = _load_lpips(weights.torch_cache).to(device) if weights.torch_cache else None
        self._vit = PatchFeatures.from_pretrained(weights.vit, device=device) if weights.vit else None
        self._inception = _load_inception(weights.inception).to(device) if weights.inception else None

    def scores(self, filled: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        """Scores one filling.

        Args:
            filled: RGB uint8 (height, width, 3).
            truth: RGB uint8 (height, width, 3).
            mask: uint8 (height, width), not empty; the true mask.

        Returns:
            Of what is there: "lpips" in the mask and "band_lpips" in the band, 0 when equal, and "remove".
        """
        scores: dict[str, float] = {}
        if self._lpips is not None:
            crop = hole_crop(mask)
            scores |= {"lpips": self._distance(filled, truth, mask, crop)}
            scores |= {"band_lpips": self._distance(filled, truth, band_around(mask), crop)}
        if self._vit is not None:
            scores["remove"] = remove_score(self._vit, filled, mask)
        return scores

    @torch.inference_mode()
    def looks(self, images: Sequence[np.ndarray], mask: np.ndarray) -> np.ndarray:
        """What local FID goes by: the network's pooled features of the crop around the hole.

        Args:
            images: RGB uint8 (height, width, 3).
            mask: uint8 (height, width), not empty; the true mask.

        Returns:
            float32 (len(images), 2048), or (0, 0) where the network is not there.
        """
        if self._inception is None:
            return np.empty((0, 0), np.float32)
        crop = hole_crop(mask)
        image_BHWC = np.stack([cut_image(image, crop, _INCEPTION_SIDE) for image in images])
        image_BCHW = torch.from_numpy(image_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1
        looks: np.ndarray = self._inception(image_BCHW.to(self._device)).cpu().numpy()
        return looks

    @torch.inference_mode()
    def _distance(self, filled: np.ndarray, truth: np.ndarray, where: np.ndarray, crop: Window) -> float:
        """LPIPS of the crop with the filling where it is asked about and the truth everywhere else."""
        mixed = np.where(where[..., None] > 0, filled, truth)
        pair = [
            torch.tensor(cut_image(image, crop, _LPIPS_SIDE)).permute(2, 0, 1)[None].float().div(255)
            for image in (mixed, truth)
        ]
        assert self._lpips is not None
        return float(self._lpips(*(image_1CHW.to(self._device) for image_1CHW in pair)))


def _load_lpips(torch_cache: str) -> torch.nn.Module:
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    before = torch.hub.get_dir()
    torch.hub.set_dir(torch_cache)  # where torchvision looks before it downloads
    try:
        return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{torch_cache}/{ALEXNET} cannot be loaded: {str(error)[:200]}") from None
    finally:
        torch.hub.set_dir(before)


def _load_inception(file: str) -> torch.nn.Module:
    """Torchvision's Inception v3 without its classifier; it takes pictures in [-1, 1]."""
    network = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=False)
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{file} cannot be loaded: {str(error)[:200]}") from None
    network.fc = torch.nn.Identity()
    return network.eval()


class PatchFeatures:
    """A ViT's features by patch: any backbone of the hub with square patches, or SAM's image encoder.

    Args:
        model: A transformers model.
        side: Of the pictures it is shown, in pixels.
        patch: Of a patch.
        mean: Of each channel, of values in [0, 1].
        std: Likewise.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        side: int,
        patch: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        self._model = model
        self.side = side
        self._rows = side // patch
        self._mean_C11, self._std_C11 = (torch.tensor(values)[:, None, None] for values in (mean, std))

    @classmethod
    def from_pretrained(cls, folder: str, *, device: str = "cpu") -> PatchFeatures:
        """Loads one from a folder in the hub's layout.

        Raises:
            WeightsError: The folder holds no vision transformer.
        """
        from transformers import AutoModel, PreTrainedConfig

        try:
            model = AutoModel.from_pretrained(folder, local_files_only=True).to(device).eval()
            told, _ = PreTrainedConfig.get_config_dict(folder, _configuration_file="preprocessor_config.json")
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(f"{folder} cannot be loaded as a ViT: {str(error)[:200]}") from None
        encoder = getattr(model, "vision_encoder", model)
        config = encoder.config
        if not hasattr(config, "patch_size") or not hasattr(config, "image_size"):
            raise WeightsError(f"{folder} is a {type(model).__name__}, not a vision transformer with patches")
        crop = told.get("crop_size")
        side = crop["height"] if isinstance(crop, dict) else config.image_size
        return cls(
            encoder,
            side=side,
            patch=config.patch_size,
            mean=tuple(told.get("image_mean", _MEAN)),
            std=tuple(told.get("image_std", _STD)),
        )

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Tensor:
        """Features of a square, RGB uint8 (side, side, 3): float (rows, columns, width)."""
        pixels_CHW = torch.tensor(image).permute(2, 0, 1).float() / 255
        pixels_CHW = (pixels_CHW - self._mean_C11) / self._std_C11
        device = next(self._model.parameters()).device
        hidden = self._model(pixels_CHW[None].to(device)).last_hidden_state[0].cpu()
        if hidden.dim() == 3:  # SAM's encoder answers with a map of channels
            return hidden.permute(1, 2, 0)
        # Before the patches come class and register tokens.
        return hidden[-(self._rows**2) :].reshape(self._rows, self._rows, -1)


def remove_score(features: PatchFeatures, filled: np.ndarray, mask: np.ndarray) -> float:
    """ReMOVE: how alike the hole and its surroundings are to a ViT, in [-1, 1]; it needs no truth.

    The cosine between the mean patch features inside and outside the mask (Chandrasekar et al. 2024,
    arXiv 2409.00707), in the crop around the hole, so that small holes are seen by more than a patch. A patch
    counts inside by as much of it as the mask covers, and outside by the rest.

    Args:
        features: The ViT.
        filled: RGB uint8 (height, width, 3).
        mask: uint8 (height, width), not empty.
    """
    crop = hole_crop(mask)
    features_hwD = features(cut_image(filled, crop, features.side))
    rows, columns, _ = features_hwD.shape
    inside_HW = torch.tensor(cut_mask(mask, crop, features.side)).float() / 255
    inside_hw1 = torch.nn.functional.adaptive_avg_pool2d(inside_HW[None], (rows, columns))[0, ..., None]
    inside_D, outside_D = (
        (weight_hw1 * features_hwD).sum(dim=(0, 1)) / weight_hw1.sum().clamp_min(1e-6)
        for weight_hw1 in (inside_hw1, 1 - inside_hw1)
    )
    return float(torch.nn.functional.cosine_similarity(inside_D, outside_D, dim=0))
