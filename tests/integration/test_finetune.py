"""Fine-tuning an adapter: latents that are kept, the same on one worker and on two, and with one killed."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle
from safetensors.torch import load_file

from textremove.checkpoint import digest_of
from textremove.errors import ConfigError
from textremove.inpaint.base import load_base
from textremove.inpaint.holes import HoleConfig
from textremove.inpaint.latents import load_encoder
from textremove.inpaint.lora import WEIGHT_NAME
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.onray import finetune_inpainter as module
from textremove.onray.finetune_inpainter import InpainterJob, InpainterResult, finetune_inpainter
from textremove.onray.inpainter_squares import PICTURE_COLUMNS, training_square
from textremove.onray.latents import EncodeJob, cached_latents, read_latents
from textremove.onray.row_files import RowFiles
from textremove.onray.tracking import TrackingConfig, mlflow_client
from textremove.pipe.prepared import count_prepared, read_dataset_info

from . import test_training_again as again
from .conftest import PlainModels

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NOWHERE = TrackingConfig(tracking_uri="none")
BATCH = 8
TRAINING = InpaintTrainConfig(batch_size=BATCH, learning_rate=1e-2, box_masks=0.5, ema_decay=0.9)


def job_of(scenes: Path, base: str, out: Path, **changes: object) -> InpainterJob:
    fields = {"base": base, "num_validation": 5, "training": TRAINING, "num_workers": 0, "tracking": NOWHERE}
    return InpainterJob(data=str(scenes), out=out, **(fields | changes))  # type: ignore[arg-type]


def losses(result: InpainterResult) -> np.ndarray:
    return np.array([[epoch[name] for name in ("train_loss", "val_loss")] for epoch in result.history])


def for_fifty_steps(scenes: Path, **changes: object) -> InpaintTrainConfig:
    steps = -(-count_prepared(scenes, split="train") // BATCH)
    return InpaintTrainConfig(**(vars(TRAINING) | {"epochs": max(3, -(-50 // steps))} | changes))


@pytest.fixture(scope="module")
def on_one(
    uneven_scenes: Path, plain_models: PlainModels, tmp_path_factory: pytest.TempPathFactory
) -> InpainterResult:
    """Fifty steps in this process."""
    out = tmp_path_factory.mktemp("one") / "adapter"
    training = for_fifty_steps(uneven_scenes)
    job = job_of(uneven_scenes, plain_models.inpainter, out, training=training)
    return finetune_inpainter(job, say=lambda line: None)


def test_it_learns_and_leaves_the_base_as_it_is(on_one: InpainterResult, plain_models: PlainModels) -> None:
    assert on_one.metrics["val_loss"] < on_one.metrics["base_val_loss"]
    assert on_one.base_digest == digest_of(load_base(plain_models.inpainter).unet.state_dict())


@pytest.mark.timeout(900)
def test_two_workers_of_which_one_is_killed_learn_what_one_does(
    on_one: InpainterResult,
    uneven_scenes: Path,
    plain_models: PlainModels,
    store: TrackingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    marker = tmp_path / "killed"
    feed = module.training_latents
    monkeypatch.setattr(
        module,
        "training_latents",
        lambda *given, **named: again.KilledOnce(feed(*given, **named), marker),
    )
    cloudpickle.register_pickle_by_value(sys.modules[again.__name__])
    try:
        job = job_of(
            uneven_scenes,
            plain_models.inpainter,
            tmp_path / "two-of-four",
            training=for_fifty_steps(uneven_scenes, batch_size=BATCH // 2),
            num_workers=2,
            tracking=store,
        )
        result = finetune_inpainter(job, say=lines.append)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[again.__name__])
    assert marker.exists()
    assert sum(line.startswith("going on after epoch") for line in lines) == 1, lines
    assert any(line.endswith("already") for line in lines)  # the latents are those of the other run
    steps = -(-count_prepared(uneven_scenes, split="train") // BATCH)
    assert len(result.history) == len(on_one.history) >= 50 / steps
    differences = np.abs(losses(result) / losses(on_one) - 1)
    assert differences.max() < 0.01, differences
    one, two = (load_file(each.out / WEIGHT_NAME) for each in (on_one, result))
    assert all(np.allclose(one[name], two[name], atol=0.01) for name in one)
    client = mlflow_client(str(store.tracking_uri))
    for name, first in (("val_loss", 0), ("train_loss", 1)):  # before the first epoch, the base's own
        told = client.get_metric_history(result.run_id, name)
        assert [metric.step for metric in told] == list(range(first, len(result.history) + 1))
    runs = client.search_runs([client.get_experiment_by_name(store.experiment).experiment_id])
    assert sum(run.info.run_name == "two-of-four" for run in runs) == 1


def test_kept_latents_teach_what_the_vae_itself_does(
    on_one: InpainterResult, uneven_scenes: Path, plain_models: PlainModels, tmp_path: Path
) -> None:
    """In the first epoch; in later ones, holes are drawn anew where the VAE runs in each step."""
    lines: list[str] = []
    job = job_of(
        uneven_scenes,
        plain_models.inpainter,
        tmp_path / "adapter",
        training=InpaintTrainConfig(**(vars(TRAINING) | {"epochs": 2, "accumulation": 2, "batch_size": 4})),
        cache_latents="false",
    )
    result = finetune_inpainter(job, say=lines.append)
    assert any("every step runs the VAE" in line for line in lines)
    first, second = np.abs(losses(result)[:2] / losses(on_one)[:2] - 1)
    assert first.max() < 5e-5, first
    assert second[0] > 1e-4, second


@pytest.fixture
def encode_job(
    ray_session: None, prepared_scenes: Path, plain_models: PlainModels, tmp_path: Path
) -> EncodeJob:
    return EncodeJob(
        rows=RowFiles.of_training(str(prepared_scenes), PICTURE_COLUMNS).first(100),
        fingerprint=read_dataset_info(prepared_scenes)["fingerprint"],
        base=plain_models.inpainter,
        holes=HoleConfig(),
        seed=0,
        location=str(tmp_path / "latents"),
        num_actors=2,
        gpu=False,
        cpus=0.5,
    )


def test_only_missing_latents_are_encoded(encode_job: EncodeJob, tmp_path: Path) -> None:
    encoder, lines = load_encoder(encode_job.base), []
    rows = cached_latents(encode_job, encoder, say=lines.append)
    assert rows.num_rows == encode_job.rows.num_rows
    assert len(rows.files) > 1
    assert f"encoded {rows.num_rows} examples" in lines[-1]
    first = {file: (os.stat(file).st_mtime_ns, Path(file).read_bytes()) for file in rows.files}
    assert not list((tmp_path / "latents").rglob("*partial*"))

    os.unlink(rows.files[0])
    assert cached_latents(encode_job, encoder, say=lines.append) == rows
    assert f"encoded {rows.counts[0]} examples" in lines[-1]
    for file, (changed, data) in first.items():
        assert Path(file).read_bytes() == data
        assert (os.stat(file).st_mtime_ns == changed) == (file != rows.files[0])
    cached_latents(encode_job, encoder, say=lines.append)
    assert lines[-1].endswith("already")


def test_a_cache_holds_what_the_encoder_says_of_each_row(encode_job: EncodeJob) -> None:
    encoder = load_encoder(encode_job.base)
    rows = cached_latents(encode_job, encoder, say=lambda line: None)
    batch = read_latents(rows.read(1, [2, 0]).to_pydict())
    source = encode_job.rows.pieces()[1]
    examples = encode_job.rows.read(source.file, [source.start + 2, source.start]).to_pylist()
    squares = [
        training_square(
            row | {"number": 0, "epoch": 0}, resolution=encoder.resolution, holes=HoleConfig(), seed=0
        )
        for row in examples
    ]
    expected = encoder.encode(squares)
    for name in ("truth_BCHW", "masked_BCHW", "mask_B1HW"):
        assert np.allclose(getattr(batch, name), getattr(expected, name), atol=1e-4)


def test_latents_of_other_holes_are_kept_apart(encode_job: EncodeJob, tmp_path: Path) -> None:
    encoder = load_encoder(encode_job.base)
    one_piece = replace(encode_job, rows=encode_job.rows.first(5))
    drawn = replace(one_piece, holes=HoleConfig(random_masks=0.5))
    variants = [one_piece, replace(one_piece, seed=1), drawn, replace(drawn, seed=1)]
    files = [cached_latents(variant, encoder, say=lambda line: None).files for variant in variants]
    assert files[0] == files[1]  # nothing is drawn
    assert len(set(files)) == 3
    place = tmp_path / "a-file"
    place.touch()
    with pytest.raises(ConfigError, match="latents cannot be kept in"):
        cached_latents(replace(one_piece, location=str(place)), encoder, say=lambda line: None)
