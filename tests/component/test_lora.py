"""LoRA: what is trained, that files are stock diffusers' own, and that a dead adapter is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from textremove.errors import AdapterError, ConfigError, WeightsError
from textremove.inpaint.base import load_base
from textremove.inpaint.diffusion import DiffusionInpainter
from textremove.inpaint.lora import WEIGHT_NAME, LoraSpec, add_lora, continue_lora, load_lora, save_lora
from textremove.inpaint.objective import InpaintObjective


@pytest.fixture(scope="module")
def adapter(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an adapter with large random updates, so that its effect shows."""
    pipeline = load_base(random_base)
    parameters = add_lora(pipeline.unet, LoraSpec())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    save_lora(pipeline.unet, folder, spec=LoraSpec(), metadata={"base": "random"})
    return folder


def _edited(adapter: Path, folder: Path, edit: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(edit, folder / WEIGHT_NAME)
    return folder


def test_only_attention_projections_of_rank_four_are_trained(random_base: Path) -> None:
    unet = load_base(random_base).unet
    before = {name: p.clone() for name, p in unet.named_parameters()}
    trainable = add_lora(unet, LoraSpec())
    names = [name for name, p in unet.named_parameters() if p.requires_grad]
    assert len(trainable) == len(names) > 0
    assert all(".lora_" in name for name in names)
    assert {name.split(".lora_")[0].split(".", 1)[1].rsplit(".", 1)[-1] for name in names} <= {
        "to_q",
        "to_k",
        "to_v",
        "0",
    }
    assert {min(p.shape) for p in trainable} == {4}
    after = {
        name.replace(".base_layer", ""): p for name, p in unet.named_parameters() if ".lora_" not in name
    }
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stock_diffusers_reads_the_adapter_and_gives_the_same_pixels(
    random_base: Path, adapter: Path
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (128, 128, 3), np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[30:90, 30:90] = 255
    ours = DiffusionInpainter.from_pretrained(random_base, adapter=adapter, num_steps=2)
    base = DiffusionInpainter.from_pretrained(random_base, num_steps=2)
    stock = StableDiffusionInpaintPipeline.from_pretrained(
        random_base, safety_checker=None, requires_safety_checker=False
    )
    stock.load_lora_weights(adapter)
    stock.set_progress_bar_config(disable=True)
    pixels = stock(
        prompt="",
        image=Image.fromarray(image),
        mask_image=Image.fromarray(mask),
        height=128,
        width=128,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images[0]
    mine = ours.inpaint([image], [mask], [3])[0]
    assert np.array_equal(mine, np.rint(pixels * 255).astype(np.uint8))
    # Pixels are rounded; the UNet's own output is equal too, to 1e-5.
    generator = torch.Generator().manual_seed(0)
    latents_BCHW = torch.randn(1, 9, 32, 32, generator=generator)
    text_BLD = torch.randn(1, 4, ours.pipeline.unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        outputs = [p.unet(latents_BCHW, 500, text_BLD).sample for p in (ours.pipeline, stock, base.pipeline)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)
    assert (outputs[0] - outputs[2]).abs().max() > 1e-2
    assert not np.array_equal(mine, base.inpaint([image], [mask], [3])[0])


def test_an_adapter_of_zeros_is_refused(random_base: Path, adapter: Path, tmp_path: Path) -> None:
    tensors = {
        k: torch.zeros_like(v) if "lora_B" in k else v for k, v in load_file(adapter / WEIGHT_NAME).items()
    }
    with pytest.raises(WeightsError, match="changes nothing"):
        load_lora(load_base(random_base), _edited(adapter, tmp_path / "zero", tensors))


def test_an_adapter_that_leaves_the_output_as_it_was_is_refused(
    random_base: Path, adapter: Path, tmp_path: Path
) -> None:
    # Not all zero to look at: what comes out of a first matrix of zeros is nothing all the same.
    tensors = {
        k: torch.zeros_like(v) if "lora_A" in k else v for k, v in load_file(adapter / WEIGHT_NAME).items()
    }
    with pytest.raises(WeightsError, match="the UNet's output is the same to the last bit"):
        load_lora(load_base(random_base), _edited(adapter, tmp_path / "idle", tensors))


def test_several_adapters_are_kept_and_one_is_chosen_each_time(
    random_base: Path, adapter: Path, tmp_path: Path
) -> None:
    tensors = {
        key: -value if "lora_B" in key else value for key, value in load_file(adapter / WEIGHT_NAME).items()
    }
    other = _edited(adapter, tmp_path / "other", tensors)
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[30:90, 30:90] = 255

    def fill(inpainter: DiffusionInpainter) -> bytes:
        return inpainter.inpaint([image], [mask], [3])[0].tobytes()

    alone = {
        "base": fill(DiffusionInpainter.from_pretrained(random_base, num_steps=1)),
        "default": fill(DiffusionInpainter.from_pretrained(random_base, adapter=adapter, num_steps=1)),
        "other": fill(DiffusionInpainter.from_pretrained(random_base, adapter=other, num_steps=1)),
    }
    assert len(set(alone.values())) == 3
    kept = DiffusionInpainter.from_pretrained(
        random_base, adapter=adapter, adapters={"other": other}, num_steps=1
    )
    for name in ("default", "other", "base", "default"):
        assert fill(kept.using(name)) == alone[name], name
    assert fill(kept) == alone["default"]
    # Named ones alone are for who asks for them.
    named = DiffusionInpainter.from_pretrained(random_base, adapters={"other": other}, num_steps=1)
    assert fill(named) == alone["base"]
    assert fill(named.using("other")) == alone["other"]
    with pytest.raises(AdapterError, match="no adapter 'third'; there are default, other, base"):
        kept.using("third")
    wider = {key: value.repeat(2, 1) for key, value in load_file(adapter / WEIGHT_NAME).items()}
    crooked = _edited(adapter, tmp_path / "crooked", wider)
    with pytest.raises(WeightsError, match="does not fit the base: .*size mismatch"):
        DiffusionInpainter.from_pretrained(random_base, adapter=adapter, adapters={"crooked": crooked})
    with pytest.raises(ConfigError, match="cannot be called 'base'"):
        DiffusionInpainter.from_pretrained(random_base, adapters={"base": other})


def test_an_adapter_with_foreign_keys_is_refused_by_name(
    random_base: Path, adapter: Path, tmp_path: Path
) -> None:
    tensors = load_file(adapter / WEIGHT_NAME)
    moved = {key.replace("unet.", "transformer."): value for key, value in tensors.items()}
    with pytest.raises(WeightsError, match=r"do not belong to a UNet: transformer\."):
        load_lora(load_base(random_base), _edited(adapter, tmp_path / "foreign", moved))
    elsewhere = {key.replace("down_blocks.1", "down_blocks.7"): value for key, value in tensors.items()}
    with pytest.raises(WeightsError, match=r"no place for adapter keys unet\.down_blocks\.7"):
        load_lora(load_base(random_base), _edited(adapter, tmp_path / "elsewhere", elsewhere))


def test_timesteps_lean_to_the_noisiest_tenth_as_asked(random_base: Path) -> None:
    pipeline = load_base(random_base)
    uniform, leaning = (
        InpaintObjective(pipeline, noisiest_share=share)._timesteps(4000, torch.Generator().manual_seed(0))
        for share in (0.0, 0.5)
    )
    assert (uniform >= 900).float().mean() == pytest.approx(0.1, abs=0.03)
    assert (leaning >= 900).float().mean() == pytest.approx(0.55, abs=0.03)
    assert {int(leaning.min()) < 100, int(leaning.max()) == 999} == {True}


def test_a_saved_adapter_can_be_trained_further(random_base: Path, adapter: Path, tmp_path: Path) -> None:
    unet = load_base(random_base).unet
    add_lora(unet, LoraSpec())
    continue_lora(unet, adapter)
    save_lora(unet, tmp_path / "again", spec=LoraSpec(), metadata={})
    first, again = (load_file(folder / WEIGHT_NAME) for folder in (adapter, tmp_path / "again"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    of_another_rank = load_base(random_base).unet
    add_lora(of_another_rank, LoraSpec(rank=2))
    with pytest.raises(WeightsError, match="of another base, rank or targets"):
        continue_lora(of_another_rank, adapter)


def test_a_folder_without_an_adapter_is_one_clear_line(random_base: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=WEIGHT_NAME):
        load_lora(load_base(random_base), tmp_path)


def test_the_loss_takes_the_base_s_own_target(random_base: Path) -> None:
    pipeline = load_base(random_base)
    objective = InpaintObjective(pipeline)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (100, 140, 3), np.uint8)
    mask = np.zeros((100, 140), np.uint8)
    mask[40:60, 50:80] = 255
    squares = [np.stack([array, array]) for array in objective.cut(image, mask, image)]
    batch = objective.encode(*squares)
    assert batch.truth_BCHW.shape == (2, 4, 32, 32)
    assert batch.mask_B1HW.shape == (2, 1, 32, 32)
    assert set(batch.mask_B1HW.unique().tolist()) == {0.0, 1.0}

    class Oracle(torch.nn.Module):
        """Knows the truth and the noise, and answers with v: then the loss is zero."""

        def forward(self, inputs_BCHW: torch.Tensor, timestep_B: torch.Tensor, **_: object) -> object:
            alpha_B111 = pipeline.scheduler.alphas_cumprod[timestep_B].view(-1, 1, 1, 1)
            noise = (inputs_BCHW[:, :4] - alpha_B111.sqrt() * batch.truth_BCHW) / (1 - alpha_B111).sqrt()
            sample = alpha_B111.sqrt() * noise - (1 - alpha_B111).sqrt() * batch.truth_BCHW
            return type("Output", (), {"sample": sample})()

    exact = objective.loss(Oracle(), batch, torch.Generator().manual_seed(0))
    assert exact.shape == (2,)
    assert exact.max() < 1e-2
    untrained = objective.loss(pipeline.unet, batch, torch.Generator().manual_seed(0))
    assert untrained.min() > 0.1
