"""The paper's ConditionedUNet at full size: ResNet-18 from ImageNet, text encoder from CLIP ViT-B/32."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import ResNet18_Weights
from transformers import CLIPTextModel, CLIPTokenizer

from textremove.errors import WeightsError
from textremove.segment.conditioned_unet import ConditionedUNet, ConditionedUNetConfig

CLIP_VIT_B_32 = "openai/clip-vit-base-patch32"
IMAGENET, RANDOM = "imagenet", "random"

_TEXT_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers",
    "num_attention_heads", "max_position_embeddings", "hidden_act", "layer_norm_eps",
    "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip


def build_paper_segmenter(
    *, text_encoder: str = CLIP_VIT_B_32, backbone: str = IMAGENET, image_size: int = 512, seed: int
) -> ConditionedUNet:
    """Builds a full-size ConditionedUNet: pretrained ResNet-18 and text encoder, the rest random.

    Args:
        text_encoder: Hub id or local folder of a CLIP model with its tokenizer.
        backbone: "imagenet" for torchvision's weights, "random", or a file of such weights.
        image_size: Side of the pictures in pixels.
        seed: Seed of the random part.

    Raises:
        WeightsError: Something cannot be downloaded or read.
    """
    try:
        text = CLIPTextModel.from_pretrained(text_encoder)
        tokenizer = CLIPTokenizer.from_pretrained(text_encoder)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"the text encoder {text_encoder} cannot be loaded ({_first_line(error)}); "
            "give a local folder with --text-encoder"
        ) from None
    torch.manual_seed(seed)
    sizes = {name: getattr(text.config, name) for name in _TEXT_SIZES}
    model = ConditionedUNet(ConditionedUNetConfig(image_size=image_size, text_config=sizes), tokenizer)
    model.text_encoder.load_state_dict(text.state_dict())
    if backbone != RANDOM:
        load_backbone(model, backbone)
    return model


def load_backbone(model: ConditionedUNet, backbone: str) -> None:
    """Loads ResNet-18 weights of torchvision's naming into a model's encoder.

    Args:
        model: With the full-size encoder.
        backbone: "imagenet", or a .safetensors, .pt or .pth file.

    Raises:
        WeightsError: The weights cannot be had, or do not fit.
    """
    tensors = _read_backbone(backbone)
    try:
        model.encoder.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("fc.")})
    except RuntimeError as error:
        raise WeightsError(f"{backbone} holds no ResNet-18: {_first_line(error)}") from None


def _read_backbone(backbone: str) -> dict[str, Tensor]:
    try:
        if backbone == IMAGENET:
            weights = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        elif Path(backbone).suffix == ".safetensors":
            weights = load_file(backbone)
        else:
            weights = torch.load(backbone, map_location="cpu", weights_only=True)
    except URLError as error:
        raise WeightsError(
            f"torchvision's ImageNet weights cannot be downloaded ({error.reason}); "
            "give a file with --backbone, or --backbone random"
        ) from None
    except Exception as error:  # a damaged file raises nearly anything: struct.error, RuntimeError, ...
        raise WeightsError(f"backbone weights {backbone} cannot be read: {_first_line(error)}") from None
    if not isinstance(weights, dict):
        raise WeightsError(f"backbone weights {backbone} are not a table of named tensors")
    return dict(weights)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
