"""LoRA fine-tuning at full size on one device: Stable Diffusion 2 inpainting at 512 px, with random weights.

python -m benchmarks.full_size --device cuda

Steps per second in bfloat16 and float32, with latents encoded once and with the VAE in every step, with and
without gradient checkpointing, and peak memory of the device; then seconds of a removal with the adapter. In
one process, without Ray: what is timed is the device. Squares are in memory; feeding is another benchmark.
float32 is as PyTorch has it on a GPU: matrix products in full, convolutions in TF32.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import tyro

from benchmarks._measure import write_result
from benchmarks._sd2 import save_sd2
from textremove.inpaint.adapter_training import AdapterTraining
from textremove.inpaint.base import load_base
from textremove.inpaint.diffusion import DiffusionInpainter
from textremove.inpaint.holes import HoleConfig, Square, cut_square
from textremove.inpaint.latents import LatentBatch, LatentEncoder
from textremove.inpaint.lora import LoraSpec, save_lora
from textremove.inpaint.objective import InpaintTrainConfig, example_seed

Precision: TypeAlias = Literal["bfloat16", "float32"]

_SPEC = LoraSpec()
_NUM_COMPARED = 16  # losses of each precision, in batches of one


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is timed.

    Attributes:
        folder: For the base with random weights, 5.2 GB; it is made when it is not there.
        base: Another base's folder, for a try at small size; None for the one at full size.
        device: "cuda", or "cpu", where no peak memory is known.
        batch_sizes: Examples of a step, which go through the UNet together.
        precisions: What is computed in; where there are both, their losses are compared.
        checkpointing: Whether activations are computed again in the backward pass; both by default.
        num_steps: Steps timed on each side and in each round.
        num_warmup: Steps before them on each side that are not timed.
        rounds: Times that the two sides are run in turn; the median of the paired ratios counts.
        removal_steps: Denoising steps of the removals.
    """

    folder: Path = Path("runs/benchmarks/full_size")
    base: Path | None = None
    device: str = "cuda"
    batch_sizes: tuple[int, ...] = (1, 4)
    precisions: tuple[Precision, ...] = ("bfloat16", "float32")
    checkpointing: tuple[bool, ...] = (False, True)
    num_steps: int = 12
    num_warmup: int = 4
    rounds: int = 3
    removal_steps: int = 50


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to train, and what it took.

    Attributes:
        precision: What was computed in.
        gradient_checkpointing: Whether activations were computed again.
        batch_size: Examples of a step.
        kept_steps_per_second: With latents encoded before, in each round.
        encoded_steps_per_second: With the VAE in every step, in each round.
        kept_over_encoded: Median of the rounds' ratios.
        kept_peak_gib: Most of the device's memory in use, the frozen VAE included; None on a CPU.
        encoded_peak_gib: The same with the VAE in every step.
    """

    precision: Precision
    gradient_checkpointing: bool
    batch_size: int
    kept_steps_per_second: list[float]
    encoded_steps_per_second: list[float]
    kept_over_encoded: float
    kept_peak_gib: float | None
    encoded_peak_gib: float | None


def main(config: Config) -> None:
    """Measure fine-tuning steps and a removal of Stable Diffusion 2 inpainting at full size."""
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(
            "error: there is no GPU here; for a try without one say --device cpu and a small --base"
        )
    write_result("full_size", measure(config))


def measure(config: Config) -> dict[str, Any]:
    """Measures all cases one after another, each precision with weights loaded anew.

    Returns:
        JSON values: what was run, the cases, how far the precisions' losses are apart, and the removals.

    Raises:
        RuntimeError: A loss was not finite, or training changed the frozen base.
    """
    base = config.base or _full_size_base(config)
    digests: set[str] = set()
    losses: dict[Precision, list[np.ndarray]] = {}
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter"
        for precision in config.precisions:
            for checkpointing in config.checkpointing:
                tuning = _Tuning(config, base, precision, checkpointing=checkpointing)
                if not digests:
                    digests.add(tuning.training.base_digest())
                before = tuning.losses()
                for batch_size in config.batch_sizes:
                    cases.append(tuning.case(batch_size))
                    print(cases[-1], flush=True)
                losses.setdefault(precision, [before, tuning.losses()])
                digests.add(tuning.training.base_digest())
                if len(digests) > 1:
                    raise RuntimeError("weights of the frozen base changed in training")
                if not adapter.exists():
                    save_lora(tuning.training.unet, adapter, spec=_SPEC, metadata={})
                shape = {
                    "resolution": tuning.encoder.resolution,
                    "num_trainable": sum(weights.numel() for weights in tuning.training.parameters),
                }
                del tuning
                _free(config.device)
        removal = _removals(config, base, adapter, resolution=shape["resolution"])
    is_gpu = config.device.startswith("cuda")
    return {
        "base": base.name if config.base else "Stable Diffusion 2 inpainting, random weights",
        **shape,
        "gpu": torch.cuda.get_device_name(config.device) if is_gpu else None,
        "num_steps": config.num_steps,
        "cases": [asdict(case) for case in cases],
        "base_unchanged": True,
        "loss_before": {name: float(of[0].mean()) for name, of in losses.items()},
        "loss_after": {name: float(of[1].mean()) for name, of in losses.items()},
        "loss_relative_difference": _relative_difference(losses),
        "removal": removal,
    }


class _Tuning:
    """An adapter in training on a freshly loaded base, of which only UNet and VAE are kept: as in the job."""

    def __init__(self, config: Config, base: Path, precision: Precision, *, checkpointing: bool) -> None:
        self.config, self.precision, self.checkpointing = config, precision, checkpointing
        self.device = torch.device(config.device)
        pipeline = load_base(base, device=config.device)
        resolution = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        self.encoder = LatentEncoder(pipeline.vae, resolution=resolution)
        largest = max(config.batch_sizes)
        settings = InpaintTrainConfig(batch_size=largest, gradient_checkpointing=checkpointing)
        self.training = AdapterTraining(pipeline, _SPEC, settings, bfloat16=precision == "bfloat16")
        rng = np.random.default_rng(0)
        self.squares = [_square(resolution, rng) for _ in range(max(largest, _NUM_COMPARED))]
        # Where a cache hands them over, and every step moves its own.
        self.latents = self.encoder.encode(self.squares).to(torch.device("cpu"))
        self._step = 0

    def case(self, batch_size: int) -> Case:
        """Steps with kept latents and with the VAE, in turn."""
        part = slice(0, batch_size)
        sides: dict[str, Callable[[], LatentBatch]] = {
            "kept": lambda: self.latents.part(part),
            "encoded": lambda: self.encoder.encode(self.squares[part]),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        peaks: dict[str, list[float | None]] = {name: [] for name in sides}
        for number in range(self.config.rounds):
            for side in sorted(sides, reverse=number % 2 == 0):  # neither is always the first
                _reset_peak(self.device)
                rates[side].append(self._steps_per_second(sides[side]))
                peaks[side].append(_peak_gib(self.device))
        ratios = [kept / encoded for kept, encoded in zip(rates["kept"], rates["encoded"], strict=True)]
        return Case(
            precision=self.precision,
            gradient_checkpointing=self.checkpointing,
            batch_size=batch_size,
            kept_steps_per_second=rates["kept"],
            encoded_steps_per_second=rates["encoded"],
            kept_over_encoded=median(ratios),
            kept_peak_gib=_largest(peaks["kept"]),
            encoded_peak_gib=_largest(peaks["encoded"]),
        )

    def _steps_per_second(self, next_batch: Callable[[], LatentBatch]) -> float:
        losses = [self._one_step(next_batch()) for _ in range(self.config.num_warmup)]
        _wait(self.device)
        started = time.perf_counter()
        losses += [self._one_step(next_batch()) for _ in range(self.config.num_steps)]
        _wait(self.device)
        seconds = time.perf_counter() - started
        if not all(bool(torch.isfinite(loss)) for loss in losses):
            raise RuntimeError(f"a loss in {self.precision} is not finite")
        return self.config.num_steps / seconds

    def _one_step(self, batch: LatentBatch) -> torch.Tensor:
        self._step += 1
        seeds = [example_seed(0, self._step, number) for number in range(len(batch))]
        return self.training.step(batch.to(self.device), seeds).mean()

    def losses(self) -> np.ndarray:
        """Validation losses of some examples as the adapter is now, float64 (number of examples,)."""
        values = [
            self.training.validation_loss(self.latents.part(slice(k, k + 1)).to(self.device), [k]).item()
            for k in range(_NUM_COMPARED)
        ]
        if not np.isfinite(values).all():
            raise RuntimeError(f"a loss in {self.precision} is not finite")
        return np.array(values)


def _full_size_base(config: Config) -> Path:
    base = config.folder / "stable-diffusion-2-inpainting"
    if not (base / "model_index.json").is_file():
        save_sd2(base, device=config.device)
        _free(config.device)
    return base


def _picture(side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (side, side, 3) of noise, and the mask of an object in it, uint8 (side, side)."""
    mask = np.zeros((side, side), np.uint8)
    top, left = rng.integers(0, side // 2, 2)
    mask[top : top + side // 3, left : left + side // 3] = 255
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8), mask


def _square(side: int, rng: np.random.Generator) -> Square:
    image, mask = _picture(side, rng)
    return cut_square(image, mask, image, resolution=side, holes=HoleConfig(), rng=rng)


def _relative_difference(losses: dict[Precision, list[np.ndarray]]) -> dict[str, float] | None:
    """The largest of an example's, before and after training on the same batches, of bfloat16 to float32."""
    if len(losses) < 2:
        return None
    pairs = zip(losses["bfloat16"], losses["float32"], strict=True)
    apart = [float(np.max(np.abs(ours - exact) / exact)) for ours, exact in pairs]
    return dict(zip(("before", "after"), apart, strict=True))


def _removals(config: Config, base: Path, adapter: Path, *, resolution: int) -> dict[str, Any]:
    """Two removals with the adapter, after a short one that is not timed."""
    device = torch.device(config.device)
    image, mask = _picture(resolution, np.random.default_rng(1))
    inpainter = DiffusionInpainter.from_pretrained(base, adapter=adapter, num_steps=2, device=config.device)
    inpainter.inpaint([image], [mask], [0])
    inpainter.num_steps = config.removal_steps
    _reset_peak(device)
    seconds: list[float] = []
    painted: list[np.ndarray] = []
    for _ in range(2):
        _wait(device)
        started = time.perf_counter()
        painted += inpainter.inpaint([image], [mask], [0])
        seconds.append(time.perf_counter() - started)
    return {
        "precision": "float32",
        "num_steps": config.removal_steps,
        "seconds": seconds,
        "peak_gib": _peak_gib(device),
        "same_twice": bool(np.array_equal(painted[0], painted[1])),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_gib(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def _largest(peaks: list[float | None]) -> float | None:
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known else None


if __name__ == "__main__":
    main(tyro.cli(Config, description=main.__doc__))
