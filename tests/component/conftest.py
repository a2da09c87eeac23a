"""Small real models with random weights, made once for the whole run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from textremove.inpaint import tiny
from textremove.pretraining import vocabulary
from textremove.text import build_text_encoder, build_tokenizer


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny inpainting base in the hub's layout, with random weights."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(vocabulary(), max_length=tiny.PROMPT_LENGTH)
    text_encoder = build_text_encoder(tokenizer, width=tiny.TEXT_WIDTH, num_layers=2)
    pipeline = tiny.build_pipeline(tiny.build_vae(), tiny.build_unet(), text_encoder, tokenizer)
    folder = tmp_path_factory.mktemp("base") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small CLIPSeg, SAM 3, Grounding DINO and SAM 2, each in the hub's layout."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    _save_clipseg(root / "clipseg")
    _save_sam3(root / "sam3")
    _save_grounding_dino(root / "dino")
    _save_sam2(root / "sam2")
    return root


@pytest.fixture(scope="session")
def hub_sources(hub: Path) -> dict[str, str]:
    """What `--segmenter` takes for each segmenter made of those."""
    pair = f"{hub / 'dino'}+{hub / 'sam2'}"
    return {"clipseg": str(hub / "clipseg"), "sam3": str(hub / "sam3"), "grounded": pair}


@pytest.fixture(scope="session")
def save_full_size() -> dict[str, Callable[[Path], None]]:
    """Saves a model at its public size, with random weights, in a folder; by the model's name."""
    savers = {"clipseg": _save_clipseg, "dino": _save_grounding_dino, "sam2": _save_sam2}
    return {name: partial(save, full=True) for name, save in savers.items()}


@pytest.fixture(scope="session")
def small_sam2_sizes() -> dict[str, Any]:
    """Arguments of the small SAM 2's configuration."""
    return _sam2_sizes()


def _text_sizes(tokenizer: Any, **sizes: int) -> dict[str, Any]:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return ids | {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length} | sizes


def _tiny(layers: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    return sizes | {"num_hidden_layers": layers} | more


def _save_clipseg(folder: Path, *, full: bool = False) -> None:
    tokenizer = build_tokenizer(vocabulary(), max_length=77 if full else 16)
    text = _text_sizes(tokenizer, **({"vocab_size": 49408} if full else _tiny(2)))
    vision = {"patch_size": 16} | ({} if full else _tiny(3, image_size=48))
    sizes = {} if full else {"projection_dim": 32, "reduce_dim": 16, "extract_layers": [0, 1, 2]}
    config = hf.CLIPSegConfig(
        text_config=text, vision_config=vision, use_complex_transposed_convolution=True, **sizes
    )
    side = 352 if full else 64
    processor = hf.CLIPSegProcessor(hf.ViTImageProcessor(size={"height": side, "width": side}), tokenizer)
    for part in (hf.CLIPSegForImageSegmentation(config), processor):
        part.save_pretrained(folder)


def _save_sam3(folder: Path) -> None:
    tokenizer = build_tokenizer(vocabulary(), max_length=32)
    vit = _tiny(2, image_size=112, window_size=4, global_attn_indexes=[1], pretrain_image_size=56)
    detr = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = hf.Sam3Config(
        vision_config={
            "backbone_config": vit | {"model_type": "sam3_vit_model"},
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config=_text_sizes(tokenizer, **_tiny(1))
        | {"model_type": "clip_text_model", "projection_dim": 32},
        geometry_encoder_config=detr,
        detr_encoder_config=detr,
        detr_decoder_config=detr | {"num_queries": 10},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 4},
    )
    processor = hf.Sam3Processor(hf.Sam3ImageProcessor(size={"height": 112, "width": 112}), tokenizer)
    for part in (hf.Sam3Model(config), processor):
        part.save_pretrained(folder)


def _save_grounding_dino(folder: Path, *, full: bool = False) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *sorted(set(vocabulary()))]
    tokenizer = hf.BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    swin = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "image_size": 64}
    sizes: dict[str, Any] = {
        "backbone_config": swin | {"model_type": "swin", "out_indices": [2, 3, 4]},
        "text_config": _tiny(1, vocab_size=len(words)) | {"model_type": "bert"},
        "d_model": 32,
        "num_queries": 20,
        "max_text_len": 64,
    }
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": 2, f"{part}_ffn_dim": 64, f"{part}_attention_heads": 4}
    size = {"shortest_edge": 800, "longest_edge": 1333} if full else {"shortest_edge": 64, "longest_edge": 96}
    processor = hf.GroundingDinoProcessor(hf.GroundingDinoImageProcessor(size=size), tokenizer)
    model = hf.GroundingDinoForObjectDetection(hf.GroundingDinoConfig(**({} if full else sizes)))
    for part in (model, processor):
        part.save_pretrained(folder)


def _sam2_sizes(*, full: bool = False) -> dict[str, Any]:
    if full:  # what makes sam2.1-hiera-small of the class's defaults, which are those of -tiny
        small = {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]}
        backbone: dict[str, Any] = small | {"model_type": "sam2_hiera_det_model"}
        return {"vision_config": {"model_type": "sam2_vision_model", "backbone_config": backbone}}
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [128, 128],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 4],
        "window_size_per_stage": [8, 4, 4, 2],
        "global_attention_blocks": [3],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    }
    heads = {"mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32}
    return {
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": 32, "image_size": 128, "mask_input_channels": 8},
        "mask_decoder_config": {"hidden_size": 32} | heads,
    }


def _save_sam2(folder: Path, *, full: bool = False) -> None:
    side = 1024 if full else 128
    hf.Sam2Model(hf.Sam2Config(**_sam2_sizes(full=full))).save_pretrained(folder)
    hf.Sam2Processor(hf.Sam2ImageProcessor(size={"height": side, "width": side})).save_pretrained(folder)


@pytest.fixture(scope="session")
def random_sdxl_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for SDXL: two text encoders, pooled embeddings and time ids; squares of 64 px."""
    torch.manual_seed(0)
    tokenizers = [build_tokenizer(["ball", "red"], max_length=8) for _ in range(2)]
    encoders = [
        build_text_encoder(tokenizers[0], width=32, num_layers=2),
        CLIPTextModelWithProjection(build_text_encoder(tokenizers[1], width=32, num_layers=2).config),
    ]
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )
    pipeline = StableDiffusionXLInpaintPipeline(
        vae=tiny.build_vae(),
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    folder = tmp_path_factory.mktemp("base") / "sdxl"
    pipeline.save_pretrained(folder)
    return folder
