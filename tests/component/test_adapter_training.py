"""Training an adapter, each option by itself: on a small real base with random weights, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler

from textremove.inpaint.adapter_training import AdapterTraining
from textremove.inpaint.diffusion import load_base
from textremove.inpaint.latents import LatentBatch
from textremove.inpaint.lora import LoraSpec
from textremove.inpaint.objective import InpaintObjective, InpaintTrainConfig, example_seed
from textremove.onray.workers import exchange_gradients

CONFIG = InpaintTrainConfig(batch_size=4, learning_rate=1e-2)
SEEDS = [11, 12, 13, 14]


def training(base: Path, **changes: object) -> AdapterTraining:
    return AdapterTraining(load_base(base), LoraSpec(), replace(CONFIG, **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def batch() -> LatentBatch:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(4, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    return LatentBatch(
        truth_BCHW=torch.randn(4, 4, 16, 16, generator=generator),
        masked_BCHW=torch.randn(4, 4, 16, 16, generator=generator),
        mask_B1HW=mask,
    )


def stepped(run: AdapterTraining, batch: LatentBatch, steps: int = 2) -> list[torch.Tensor]:
    return [run.step(batch, [seed + 100 * step for seed in SEEDS]) for step in range(steps)]


def same_adapter(one: AdapterTraining, other: AdapterTraining, atol: float) -> bool:
    pairs = zip(one.parameters, other.parameters, strict=True)
    return all(torch.allclose(a, b, atol=atol) for a, b in pairs)


def test_only_the_adapter_changes(random_base: Path, batch: LatentBatch) -> None:
    run = training(random_base, ema_decay=0.9, gradient_checkpointing=True, min_snr_gamma=5.0)
    digest = run.base_digest()
    assert digest == training(random_base).base_digest()
    before = {k: v.clone() for k, v in run.unet.state_dict().items()}
    stepped(run, batch)
    with run.averaged():
        run.validation_loss(batch, SEEDS)
    after = run.unet.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(".lora_" in name for name in changed)
    assert run.base_digest() == digest
    # And the digest would have told.
    next(iter(dict(run.unet.named_parameters()).values())).data += 1e-7
    assert run.base_digest() != digest


def test_an_example_s_noise_does_not_depend_on_what_is_beside_it(
    random_base: Path, batch: LatentBatch
) -> None:
    run = training(random_base)
    together = run.validation_loss(batch, SEEDS)
    turned = run.validation_loss(batch.part(slice(2, 4)), SEEDS[2:])
    assert torch.allclose(together[2:], turned, atol=1e-5)
    assert len({example_seed(0, epoch, number) for epoch in range(1, 4) for number in range(50)}) == 150
    assert example_seed(0, 1, 2) == example_seed(0, 1, 2) != example_seed(1, 1, 2)


def test_accumulating_is_a_larger_batch(random_base: Path, batch: LatentBatch) -> None:
    whole, parts, uneven = (training(random_base, batch_size=size) for size in (4, 2, 3))
    losses = [torch.cat(stepped(run, batch)) for run in (whole, parts, uneven)]
    for loss, run in zip(losses[1:], (parts, uneven), strict=True):
        assert torch.allclose(loss, losses[0], atol=1e-4)
        assert same_adapter(run, whole, atol=1e-4)


def test_checkpointing_keeps_less_and_learns_the_same(random_base: Path, batch: LatentBatch) -> None:
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    totals, runs = [], []
    for on in (False, True):
        runs.append(training(random_base, gradient_checkpointing=on))
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            stepped(runs[-1], batch, steps=1)
        totals.append(sum(kept))
    stepped(runs[0], batch), stepped(runs[1], batch)
    assert same_adapter(*runs, atol=1e-5)
    # What is kept is counted while it is computed again, too, but then one block at a time.
    first_pass = []
    for run in runs:
        kept.clear()
        run.unet.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run.loss(batch, SEEDS, unet=run.unet)
        first_pass.append(sum(kept))
    assert first_pass[1] < first_pass[0] / 4


def test_the_average_is_one_and_is_only_lent(random_base: Path, batch: LatentBatch) -> None:
    run = training(random_base, ema_decay=0.5)
    name = next(k for k, v in run.unet.named_parameters() if v.requires_grad and "lora_B" in k)
    weights = dict(run.unet.named_parameters())[name]
    seen = []
    for step in range(6):
        run.step(batch.part(slice(0, 1)), [step])
        seen.append(weights.detach().clone())
    with run.averaged():
        average = weights.detach().clone()
    assert torch.equal(weights, seen[-1])
    expected = seen[0]
    for step, value in enumerate(seen[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert torch.allclose(average, expected, atol=1e-6)
    assert not torch.allclose(average, seen[-1], atol=1e-6)
    without = training(random_base)
    with without.averaged():
        assert same_adapter(without, training(random_base), atol=0)


def test_what_is_saved_goes_on_as_if_never_stopped(
    random_base: Path, batch: LatentBatch, tmp_path: Path
) -> None:
    run, again = training(random_base, ema_decay=0.5), training(random_base, ema_decay=0.5)
    stepped(run, batch)
    torch.save(run.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.adapter_digest() == run.adapter_digest()
    for each in (run, again):
        each.step(batch, SEEDS)
    assert same_adapter(run, again, atol=0)
    with run.averaged(), again.averaged():
        assert same_adapter(run, again, atol=0)
    other = AdapterTraining(load_base(random_base), LoraSpec(target_modules=("to_q",)), CONFIG)
    with pytest.raises(RuntimeError, match="another adapter"):
        other.load_state_dict(run.state_dict())


def test_bfloat16_computes_in_it_and_learns_in_float32(random_base: Path, batch: LatentBatch) -> None:
    exact = training(random_base)
    rough = AdapterTraining(load_base(random_base), LoraSpec(), CONFIG, bfloat16=True)
    losses = [run.step(batch, SEEDS) for run in (exact, rough)]
    assert not torch.equal(*losses)
    assert torch.allclose(*losses, rtol=0.05)
    assert {parameter.dtype for parameter in rough.parameters} == {torch.float32}


def snr(scheduler: DDIMScheduler) -> torch.Tensor:
    return scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)


@pytest.mark.parametrize("zero_terminal", [False, True])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weights_the_rebuilt_picture_alike(random_base: Path, kind: str, zero_terminal: bool) -> None:
    pipeline = load_base(random_base)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, prediction_type=kind, rescale_betas_zero_snr=zero_terminal
    )
    objective = InpaintObjective(pipeline, InpaintTrainConfig(min_snr_gamma=5.0))
    timesteps = torch.arange(1000)
    weights = objective._weights(timesteps)
    assert torch.isfinite(weights).all()
    ratio = snr(pipeline.scheduler)
    # The error of the rebuilt picture, of epsilon and of v are as 1 : SNR : SNR + 1.
    of_the_picture = weights * (ratio if kind == "epsilon" else ratio + 1)
    assert torch.allclose(of_the_picture, ratio.clamp(max=5), rtol=1e-4, atol=1e-6)
    assert (ratio[-1] == 0) == zero_terminal
    if zero_terminal:
        assert weights[-1] == (1 if kind == "epsilon" else 0)


def test_min_snr_weights_steps_and_not_validation(random_base: Path, batch: LatentBatch) -> None:
    plain, weighted = training(random_base), training(random_base, min_snr_gamma=1.0)
    assert torch.equal(*(run.validation_loss(batch, SEEDS) for run in (plain, weighted)))
    timestep_B = torch.cat(
        [plain.objective._timesteps(1, torch.Generator().manual_seed(seed)) for seed in SEEDS]
    )
    expected = plain.step(batch, SEEDS) * weighted.objective._weights(timestep_B)
    assert torch.allclose(weighted.step(batch, SEEDS), expected, rtol=1e-4)


class Oracle(torch.nn.Module):
    """Knows the truth and the noise, and answers with what the scheduler wants: then the loss is zero."""

    def __init__(self, objective: InpaintObjective, truth_BCHW: torch.Tensor) -> None:
        super().__init__()
        self.scheduler, self.truth_BCHW = objective.scheduler, truth_BCHW

    def forward(self, inputs_BCHW: torch.Tensor, timestep_B: torch.Tensor, **_: object) -> object:
        alpha_B111 = self.scheduler.alphas_cumprod[timestep_B].view(-1, 1, 1, 1)
        noise = (inputs_BCHW[:, :4] - alpha_B111.sqrt() * self.truth_BCHW) / (1 - alpha_B111).sqrt()
        v = alpha_B111.sqrt() * noise - (1 - alpha_B111).sqrt() * self.truth_BCHW
        sample = noise if self.scheduler.config.prediction_type == "epsilon" else v
        return type("Output", (), {"sample": sample})()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_takes_the_base_s_own_target(random_base: Path, batch: LatentBatch, kind: str) -> None:
    pipeline = load_base(random_base)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, prediction_type=kind)
    objective = InpaintObjective(pipeline, CONFIG)
    exact = objective.loss(Oracle(objective, batch.truth_BCHW), batch, SEEDS, weighted=False)
    assert exact.shape == (4,)
    assert exact.max() < 1e-2
    assert objective.loss(pipeline.unet, batch, SEEDS, weighted=False).min() > 0.1


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_workers_exchange_the_adapter_s_gradients_once_a_step_and_nothing_else(
    random_base: Path, batch: LatentBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("weights were sent")

    monkeypatch.setattr("torch.nn.parallel.distributed._sync_module_states", never)
    monkeypatch.setattr("torch.nn.parallel.distributed.DistributedDataParallel._sync_buffers", never)
    run = training(random_base, batch_size=2)
    wrapped = exchange_gradients(run.unet)
    assert list(run.unet.buffers()) == []
    sizes: list[int] = []

    def count(state, bucket):  # type: ignore[no-untyped-def]  # DDP does not take annotations as text
        sizes.append(bucket.buffer().numel())
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped.register_comm_hook(None, count)
    num_adapter = sum(parameter.numel() for parameter in run.parameters)
    for _ in range(3):
        sizes.clear()
        run.step(batch, SEEDS, wrapped=wrapped)  # two parts of two
        assert sum(sizes) == num_adapter
    alone = training(random_base, batch_size=2)
    for _ in range(3):
        alone.step(batch, SEEDS)
    assert same_adapter(run, alone, atol=1e-6)
    assert num_adapter < sum(np.prod(p.shape) for p in run.unet.parameters()) / 20
    del wrapped
