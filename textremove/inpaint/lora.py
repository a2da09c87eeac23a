"""LoRA on a diffusion UNet (paper section 4.3), in the hub's own file format, with checks on loading.

diffusers only warns when no key of an adapter matches and then loads nothing, so that a result looks
like the adapter's and is the base's. Here every key must land and must change something.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from textremove.atomic import atomic_dir
from textremove.checkpoint import MANIFEST_FILE, read_manifest, write_manifest
from textremove.errors import WeightsError
from textremove.inpaint.base import Pipeline
from textremove.inpaint.options import BASE, DEFAULT

KIND = "lora-adapter"
WEIGHT_NAME = "pytorch_lora_weights.safetensors"
_PREFIX = "unet."


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """Which matrices are trained. The defaults are the paper's.

    Attributes:
        rank: Rank of each update.
        alpha: Its scale; the update is multiplied by alpha / rank.
        target_modules: Names of the attention projections that get one.
    """

    rank: int = 4
    alpha: int = 4
    target_modules: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")


def add_lora(unet: UNet2DConditionModel, spec: LoraSpec) -> list[torch.nn.Parameter]:
    """Freezes a UNet and adds trainable LoRA matrices that start by changing nothing.

    Returns:
        The trainable parameters: the LoRA matrices and nothing else.
    """
    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            target_modules=list(spec.target_modules),
            init_lora_weights="gaussian",
        )
    )
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def save_lora(
    unet: UNet2DConditionModel,
    path: str | Path,
    *,
    spec: LoraSpec,
    metadata: dict[str, Any],
    overwrite: bool = False,
) -> None:
    """Saves a UNet's adapter to a folder that stock diffusers' `load_lora_weights` reads too.

    Args:
        unet: With an adapter.
        path: The folder; it appears whole or not at all.
        spec: What the adapter was made with.
        metadata: What to keep of how it was made: base, metrics, data digest, ...
        overwrite: Whether to replace a folder that is there.
    """
    with atomic_dir(path, overwrite=overwrite) as folder:
        StableDiffusionInpaintPipeline.save_lora_weights(
            folder,
            unet_lora_layers=get_peft_model_state_dict(unet),
            unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        )
        write_manifest(folder, kind=KIND, config=asdict(spec), metadata=metadata)


def _read_adapter(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_dir():
        raise WeightsError(f"no adapter folder at {path}")
    if (path / MANIFEST_FILE).is_file():
        read_manifest(path, kind=KIND)
    try:
        return load_file(path / WEIGHT_NAME)
    except FileNotFoundError:
        raise WeightsError(
            f"{path} has no {WEIGHT_NAME}; it is not a LoRA adapter in the hub's format"
        ) from None
    except SafetensorError as error:
        raise WeightsError(f"{path / WEIGHT_NAME} is damaged: {error}") from None


def load_lora(pipeline: Pipeline, path: str | Path, *, name: str = DEFAULT) -> None:
    """Loads an adapter into a pipeline's UNet and makes sure that it took effect.

    Args:
        pipeline: Its UNet gets the adapter, beside those it has, and uses it until `choose_lora`.
        path: Folder with pytorch_lora_weights.safetensors.
        name: What `choose_lora` will know it by.

    Raises:
        WeightsError: The adapter is missing, has keys this UNet does not know, or would change nothing.
    """
    path = Path(path)
    tensors = _read_adapter(path)
    foreign = sorted(key for key in tensors if not key.startswith(_PREFIX))
    if foreign or not tensors:
        raise WeightsError(
            f"{path}: adapter keys that do not belong to a UNet: {_some(foreign) or 'there are none'}"
        )
    ups = {key: value for key, value in tensors.items() if ".lora_B." in key or ".lora.up." in key}
    if not any(bool(value.any()) for value in ups.values()):
        raise WeightsError(f"{path}: the adapter changes nothing, all of {_some(sorted(ups))} are zero")
    # A matrix that has an adapter already lies one level deeper, inside its wrapper.
    known = {module.replace(".base_layer", "") for module, _ in pipeline.unet.named_modules()}
    unknown = sorted(key for key in tensors if key.removeprefix(_PREFIX).split(".lora", 1)[0] not in known)
    if unknown:
        raise WeightsError(
            f"{path}: the base has no place for adapter keys {_some(unknown)}; is it for another base?"
        )
    try:
        with warnings.catch_warnings():
            # A second adapter is what is wanted here, and one that does not fit is told in our own words.
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            warnings.filterwarnings("ignore", "Adapter .* was active which is now deleted")
            # Into the UNet alone: the pipeline's own loader warns that the text encoder got nothing.
            pipeline.unet.load_lora_adapter(path, prefix="unet", weight_name=WEIGHT_NAME, adapter_name=name)
    except (RuntimeError, ValueError, KeyError) as error:
        # diffusers stumbles in clearing up after the error that counts, if there is another adapter.
        cause = error.__context__ if isinstance(error, KeyError) else error
        raise WeightsError(
            f"{path}: adapter does not fit the base: {' '.join(str(cause).split())[:300]}"
        ) from None
    landed = get_peft_model_state_dict(pipeline.unet, adapter_name=name)
    if len(landed) != len(tensors):
        raise WeightsError(f"{path}: {len(tensors)} adapter keys, but only {len(landed)} landed in the base")
    if not _changes_the_output(pipeline.unet, name):
        raise WeightsError(
            f"{path}: the adapter changes nothing: with {_some(sorted(ups))} the UNet's output is the same "
            f"to the last bit"
        )


def choose_lora(unet: UNet2DConditionModel, name: str) -> None:
    """Makes a UNet use one of its adapters, or none of them for "base"."""
    if name == BASE:
        unet.disable_lora()
    else:
        unet.enable_lora()
        unet.set_adapters(name)


@torch.inference_mode()
def _changes_the_output(unet: UNet2DConditionModel, name: str) -> bool:
    """Runs a UNet once with an adapter and once without, on a small random input."""
    generator = torch.Generator().manual_seed(0)
    config = unet.config

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(unet.device, unet.dtype)

    side = 4 * 2 ** (len(config.block_out_channels) - 1)
    given: dict[str, Any] = {"encoder_hidden_states": random(1, 4, config.cross_attention_dim)}
    if config.addition_embed_type == "text_time":  # SDXL: a pooled embedding and six sizes
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["added_cond_kwargs"] = {"text_embeds": random(1, pooled), "time_ids": random(1, 6)}
    latents_BCHW = random(1, config.in_channels, side, side)
    outputs = []
    for chosen in (BASE, name):
        choose_lora(unet, chosen)
        outputs.append(unet(latents_BCHW, 500, **given).sample)
    return not torch.equal(*outputs)


def continue_lora(unet: UNet2DConditionModel, path: str | Path) -> None:
    """Sets the adapter that `add_lora` gave a UNet to the values of a saved one, to train it further.

    Raises:
        WeightsError: The adapter is missing, or of another shape than the UNet's.
    """
    path = Path(path)
    tensors = {key.removeprefix(_PREFIX): value for key, value in _read_adapter(path).items()}
    wanted = get_peft_model_state_dict(unet)
    wrong = sorted(
        key
        for key in tensors.keys() | wanted.keys()
        if key not in tensors or key not in wanted or tensors[key].shape != wanted[key].shape
    )
    if wrong:
        raise WeightsError(f"{path}: an adapter of another base, rank or targets; see {_some(wrong)}")
    set_peft_model_state_dict(unet, tensors)


def _some(keys: list[str]) -> str:
    """The first few keys and how many more there are, for a one-line message."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
