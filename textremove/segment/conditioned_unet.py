"""ConditionedUNet: a ResNet U-Net that reads a prompt through cross-attention (paper section 4.2.1).

The picture goes down a ResNet-18 and up again through four up-blocks with skip connections. After
encoder stages 2, 3 and 4 and at the end of every up-block the pixels attend to the prompt's tokens.

Legend of axes: B batch, C channels, H height, W width, L tokens, D token width, N = H * W pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from textremove.atomic import atomic_dir
from textremove.checkpoint import load_tensors, read_manifest, save_tensors, write_manifest
from textremove.errors import WeightsError

KIND = "conditioned-unet"


@dataclass(frozen=True, kw_only=True)
class ConditionedUNetConfig:
    """Sizes of a ConditionedUNet. The defaults are the paper's.

    Attributes:
        image_size: Side in pixels of the square pictures it reads; a multiple of 32.
        stage_widths: Channels of the four ResNet stages; the stem has as many as the first.
        decoder_widths: Channels that come out of the four up-blocks.
        num_heads: Attention heads of every cross-attention.
        text_config: Arguments of the CLIPTextConfig of its text encoder.
    """

    image_size: int = 512
    stage_widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    decoder_widths: tuple[int, int, int, int] = (256, 128, 64, 32)
    num_heads: int = 4
    text_config: dict[str, Any] = field(default_factory=dict)


class CrossAttention(nn.Module):
    """Pixels attend to prompt tokens; what they read is added to them.

    Written out in matrix products: with thousands of queries and a handful of keys, fused attention
    kernels take several times as long on a CPU.
    """

    def __init__(self, width: int, text_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project_text = nn.Linear(text_width, width)
        self.norm_text = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def _heads(self, x_BLC: Tensor) -> Tensor:
        """(B, L, C) to (B, heads, L, C / heads)."""
        return x_BLC.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, pixels_BCHW: Tensor, tokens_BLD: Tensor, padding_BL: Tensor) -> Tensor:
        pixels_BNC = pixels_BCHW.flatten(2).transpose(1, 2)
        tokens_BLC = self.norm_text(self.project_text(tokens_BLD))
        key_BLC, value_BLC = self.key_value(tokens_BLC).chunk(2, dim=-1)
        query_BhNd, key_BhLd, value_BhLd = map(self._heads, (self.query(pixels_BNC), key_BLC, value_BLC))
        scores_BhNL = query_BhNd @ key_BhLd.transpose(-1, -2) * key_BhLd.shape[-1] ** -0.5
        scores_BhNL = scores_BhNL.masked_fill(padding_BL[:, None, None, :], -1e4)  # fits half precision too
        read_BhNd = scores_BhNL.softmax(dim=-1).to(value_BhLd.dtype) @ value_BhLd
        read_BNC = self.output(read_BhNd.transpose(1, 2).flatten(2))
        return pixels_BCHW + read_BNC.transpose(1, 2).reshape(pixels_BCHW.shape)


def _residual_stage(width_in: int, width: int, *, stride: int) -> nn.Sequential:
    """Two of ResNet-18's basic blocks; the first halves the picture when stride is 2."""
    shortcut = None
    if stride != 1 or width_in != width:
        shortcut = nn.Sequential(
            nn.Conv2d(width_in, width, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(width)
        )
    return nn.Sequential(BasicBlock(width_in, width, stride, shortcut), BasicBlock(width, width))


class ResNetEncoder(nn.Module):
    """ResNet-18 without its classifier, at any width.

    Its parameters carry torchvision's names, so that at widths (64, 128, 256, 512) torchvision's
    ImageNet weights load into it as they are.
    """

    def __init__(self, stage_widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        stem = stage_widths[0]
        self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _residual_stage(stem, stage_widths[0], stride=1)
        self.layer2 = _residual_stage(stage_widths[0], stage_widths[1], stride=2)
        self.layer3 = _residual_stage(stage_widths[1], stage_widths[2], stride=2)
        self.layer4 = _residual_stage(stage_widths[2], stage_widths[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, image_BCHW: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(image_BCHW)))


class UpBlock(nn.Module):
    """Doubles the size, joins the skip connection, two residual blocks, then reads the prompt."""

    def __init__(self, width_in: int, width_skip: int, width: int, text_width: int, num_heads: int) -> None:
        super().__init__()
        self.blocks = _residual_stage(width_in + width_skip, width, stride=1)
        self.read_text = CrossAttention(width, text_width, num_heads)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor, tokens_BLD: Tensor, padding_BL: Tensor) -> Tensor:
        x_BCHW = F.interpolate(x_BCHW, size=skip_BCHW.shape[-2:], mode="bilinear", align_corners=False)
        x_BCHW = self.blocks(torch.cat([x_BCHW, skip_BCHW], dim=1))
        return self.read_text(x_BCHW, tokens_BLD, padding_BL)


class ConditionedUNet(nn.Module):
    """Segments what a prompt names.

    Args:
        config: Its sizes.
        tokenizer: The CLIP tokenizer that goes with the text encoder; saved along with the weights.
    """

    def __init__(self, config: ConditionedUNetConfig, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**config.text_config))
        text_width, heads = self.text_encoder.config.hidden_size, config.num_heads
        self.encoder = ResNetEncoder(config.stage_widths)
        w1, w2, w3, w4 = config.stage_widths
        self.read_text = nn.ModuleList(CrossAttention(width, text_width, heads) for width in (w2, w3, w4))
        self.decoder = nn.ModuleList(
            UpBlock(width_in, width_skip, width, text_width, heads)
            for width_in, width_skip, width in zip(
                (w4, *config.decoder_widths[:3]), (w3, w2, w1, w1), config.decoder_widths, strict=True
            )
        )
        last = config.decoder_widths[-1]
        self.head = nn.Sequential(nn.Conv2d(last, last, 3, padding=1), nn.ReLU(), nn.Conv2d(last, 1, 1))

    def forward(self, image_BCHW: Tensor, input_ids_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
        """Computes mask logits.

        Args:
            image_BCHW: float, ImageNet-normalised RGB, sides a multiple of 32.
            input_ids_BL: int64 token ids of the prompts.
            attention_mask_BL: int64, 1 at the prompt's tokens and 0 at padding.

        Returns:
            logits_B1HW: float, at the picture's own size; the sigmoid is the probability of the mask.
        """
        # 1. Read the prompt.
        tokens_BLD = self.text_encoder(input_ids_BL, attention_mask=attention_mask_BL).last_hidden_state
        padding_BL = attention_mask_BL == 0
        # 2. Down: keep what the skip connections need.
        stem_BCHW = self.encoder.stem(image_BCHW)
        stage1_BCHW = self.encoder.layer1(self.encoder.maxpool(stem_BCHW))
        stage2_BCHW = self.read_text[0](self.encoder.layer2(stage1_BCHW), tokens_BLD, padding_BL)
        stage3_BCHW = self.read_text[1](self.encoder.layer3(stage2_BCHW), tokens_BLD, padding_BL)
        x_BCHW = self.read_text[2](self.encoder.layer4(stage3_BCHW), tokens_BLD, padding_BL)
        # 3. Up, reading the prompt again at every size.
        skips = (stage3_BCHW, stage2_BCHW, stage1_BCHW, stem_BCHW)
        for up_block, skip_BCHW in zip(self.decoder, skips, strict=True):
            x_BCHW = up_block(x_BCHW, skip_BCHW, tokens_BLD, padding_BL)
        # 4. One logit per pixel, at full size.
        logits_B1HW = self.head(x_BCHW)
        return F.interpolate(logits_B1HW, size=image_BCHW.shape[-2:], mode="bilinear", align_corners=False)

    def tokenize(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Turns prompts into (input_ids_BL, attention_mask_BL), int64, padded to the longest allowed."""
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        return tokens.input_ids, tokens.attention_mask

    def save_pretrained(
        self,
        path: str | Path,
        *,
        metadata: dict[str, Any],
        overwrite: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Saves weights, tokenizer and manifest to a folder that `from_pretrained` reads.

        Args:
            path: The folder; it appears whole or not at all.
            metadata: What to keep of how it was made: prompt format, threshold, metrics, data digest, ...
            overwrite: Whether to replace a folder that is there.
            dtype: What to store floating weights as; as they are when None.
        """
        tensors = {
            name: tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
            for name, tensor in self.state_dict().items()
        }
        with atomic_dir(path, overwrite=overwrite) as folder:
            save_tensors(folder, tensors)
            self.tokenizer.save_pretrained(folder)
            write_manifest(folder, kind=KIND, config=asdict(self.config), metadata=metadata)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Loads a model saved by `save_pretrained`, in float32 and evaluation mode.

        Raises:
            WeightsError: The folder is missing, damaged, or holds something else.
        """
        manifest = read_manifest(path, kind=KIND)
        config: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in manifest["config"].items()
        }
        model = cls(ConditionedUNetConfig(**config), CLIPTokenizer.from_pretrained(path))
        tensors = load_tensors(path)
        try:
            model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
        except RuntimeError as error:
            raise WeightsError(
                f"{path}: weights do not fit the model: {' '.join(str(error).split())}"
            ) from None
        return model.eval()
