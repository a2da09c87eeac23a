"""Both trainings and the evaluation through the real Ray Train and Ray Data, on procedural scenes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torchvision

from textremove.checkpoint import read_manifest
from textremove.images import decode_image
from textremove.inpaint.lora import WEIGHT_NAME
from textremove.inpaint.metrics import pooled_psnr
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.inpaint.perceptual import ALEXNET, INCEPTION
from textremove.onray.evaluate import EvaluateJob, evaluate
from textremove.onray.evaluation import Evaluation
from textremove.onray.finetune_inpainter import InpainterJob, finetune_inpainter
from textremove.onray.registry import PromoteJob, promote, registered_folder
from textremove.onray.squares import to_square
from textremove.onray.tracking import TrackingConfig, mlflow_client
from textremove.onray.train_segmenter import SegmenterJob, SegmenterResult, train_segmenter
from textremove.pipe.absent import AbsentExamples
from textremove.pipe.prepared import prepared_rows
from textremove.presets import load_inpainter, load_segmenter
from textremove.segment.conditioned_unet import ConditionedUNet
from textremove.segment.preprocess import normalise
from textremove.segment.training import segmentation_loss

from .conftest import QUICK, PlainModels

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NOWHERE = TrackingConfig(tracking_uri="none")


def test_two_workers_train_a_segmenter_that_loads(trained: SegmenterResult, said: list[str]) -> None:
    assert said[0].startswith("starting from nothing (random weights)")
    assert any(line.startswith("epoch 3 of 3") for line in said)
    metadata = read_manifest(trained.out)["metadata"]
    assert metadata["threshold"] == trained.threshold
    assert metadata["run_id"] == trained.run_id
    assert metadata["prompt_format"].startswith("<what> at the <place>")
    assert metadata["metrics"] == trained.metrics
    assert metadata["training"]["epochs"] == 3
    assert {"data", "git_revision", "strategy", "started_from", "num_workers"} <= metadata.keys()
    assert metadata["data"]["fingerprint"]
    assert {path.suffix for path in trained.out.iterdir()} <= {".json", ".safetensors", ".txt"}  # no pickle
    segmenter = load_segmenter(str(trained.out))
    found = segmenter.segment([np.zeros((30, 50, 3), np.uint8)], ["ball at the left"])[0]
    assert found.mask.shape == (30, 50)
    assert [path.name for path in trained.out.parent.iterdir()] == ["segmenter"]  # nothing left beside it


def test_validation_counts_every_row_once_over_two_workers(
    trained: SegmenterResult, uneven_scenes: Path
) -> None:
    model = ConditionedUNet.from_pretrained(trained.out)
    absent = AbsentExamples.of(uneven_scenes, share=1, seed=QUICK.seed)
    rows = list(prepared_rows(uneven_scenes, split="val"))
    emptied = [absent.apply(row) for row in rows]

    def mean_loss(rows: list[dict[str, Any]]) -> float:
        losses = []
        for row in rows:
            square = to_square(row, side=64)
            mask_B1HW = torch.tensor(square["mask"])[None, None].float() / 255
            with torch.no_grad():
                logits_B1HW = model(normalise(square["image"][None]), *model.tokenize([row["prompt"]]))
            losses.append(segmentation_loss(logits_B1HW, mask_B1HW, QUICK).item())
        return float(np.mean(losses))

    assert len(rows) % 2 == 1
    assert all(row["mask"] is None for row in emptied)
    assert trained.metrics["val_loss"] == pytest.approx(
        0.75 * mean_loss(rows) + 0.25 * mean_loss(emptied), rel=1e-4
    )
    images, prompts = [decode_image(row["image"]) for row in emptied], [row["prompt"] for row in emptied]
    found = [answer.found for answer in load_segmenter(str(trained.out)).segment(images, prompts)]
    assert trained.metrics["val_absent_found"] == pytest.approx(np.mean(found))


def test_the_run_holds_metrics_settings_and_model(trained: SegmenterResult, store: TrackingConfig) -> None:
    client = mlflow_client(str(store.tracking_uri))
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["val_loss"] == pytest.approx(trained.metrics["val_loss"])
    assert run.data.params["training.dice_weight"] == "0.7"
    assert run.data.params["started_from"] == "nothing (random weights)"
    assert "model/model.safetensors" in [file.path for file in client.list_artifacts(trained.run_id, "model")]


def test_training_goes_on_from_a_saved_model_and_says_so(
    trained: SegmenterResult, prepared_scenes: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    job = SegmenterJob(
        data=str(prepared_scenes),
        out=tmp_path / "more",
        init=str(trained.out),
        num_workers=0,
        training=replace(
            QUICK, epochs=2, early_stopping_patience=1, learning_rate=1e-9, text_learning_rate=0
        ),
        tracking=NOWHERE,
    )
    more = train_segmenter(job, say=lines.append)
    assert more.started_from == f"the weights in {trained.out}"
    assert more.started_from in lines[0]
    before, after = (ConditionedUNet.from_pretrained(path) for path in (trained.out, more.out))
    assert torch.allclose(before.head[0].weight, after.head[0].weight, atol=1e-5)
    frozen = zip(before.text_encoder.parameters(), after.text_encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in frozen)


@pytest.fixture(scope="module")
def adapter(
    prepared_scenes: Path,
    plain_models: PlainModels,
    store: TrackingConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An adapter on a random base, after one epoch; on two workers it is trained in test_finetune.py."""
    job = InpainterJob(
        data=str(prepared_scenes),
        out=tmp_path_factory.mktemp("adapter") / "adapter",
        base=plain_models.inpainter,
        num_validation=5,
        training=InpaintTrainConfig(epochs=1, batch_size=8, learning_rate=1e-2),
        num_workers=0,
        tracking=store,
    )
    result = finetune_inpainter(job, say=lambda line: None)
    assert result.num_trainable < result.num_frozen / 20
    assert result.metrics["val_loss"] < result.metrics["base_val_loss"]
    return result.out


def test_the_adapter_loads_takes_effect_and_names_its_base(adapter: Path, plain_models: PlainModels) -> None:
    assert (adapter / WEIGHT_NAME).is_file()
    assert read_manifest(adapter)["metadata"]["base"] == plain_models.inpainter
    image, mask = np.full((32, 32, 3), 90, np.uint8), np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    with_it = load_inpainter(plain_models.inpainter, adapter=str(adapter), num_steps=2)
    without = load_inpainter(plain_models.inpainter, num_steps=2)
    assert not np.array_equal(
        with_it.inpaint([image], [mask], [0])[0], without.inpaint([image], [mask], [0])[0]
    )


def test_evaluation_scores_each_example_once_and_promotion_follows_it(
    trained: SegmenterResult,
    adapter: Path,
    prepared_scenes: Path,
    plain_models: PlainModels,
    store: TrackingConfig,
    tmp_path: Path,
) -> None:
    job = EvaluateJob(
        data=str(prepared_scenes),
        out=tmp_path / "all",
        segmenter=("tiny", str(trained.out)),  # the first finds things; the other has hardly learnt
        base=plain_models.inpainter,
        adapter=str(adapter),
        num_steps=2,
        variants=("lora", "base", "telea", "occluders", "ours"),
        tracking=store,
    )
    result = evaluate(job, say=lambda line: None)
    ids = [row["example_id"] for row in prepared_rows(prepared_scenes, split="test", columns=["example_id"])]
    segment, inpaint = (
        pq.read_table(result.out / name).to_pandas() for name in ("segment.parquet", "inpaint.parquet")
    )
    assert set(result.segmenters) == {"tiny", "segmenter", "location-prior"}
    assert list(result.inpainters) == list(job.variants)
    for table, column, names in (
        (segment, "segmenter", result.segmenters),
        (inpaint, "inpainter", result.inpainters),
    ):
        for name in names:
            assert sorted(table[table[column] == name].example_id) == sorted(ids)
    prior = segment[segment.segmenter == "location-prior"]
    assert result.segmenters["location-prior"]["box_dice"] == pytest.approx(prior.box_dice.mean())
    telea = inpaint[inpaint.inpainter == "telea"]
    assert result.inpainters["telea"]["psnr"] == pytest.approx(telea.psnr.mean())
    assert result.inpainters["telea"]["pooled_psnr"] == pytest.approx(
        pooled_psnr(telea.squared_error, telea.num_pixels)
    )
    assert inpaint.groupby("example_id").seed.nunique().eq(1).all()  # all variants share it
    assert not inpaint.outside.any()  # nothing outside the feathered masks changed
    assert inpaint[["ssim", "band_psnr", "band_ssim"]].notna().all(axis=None)
    assert set(inpaint.shape_group) == {"simple", "compound"}
    found = inpaint[inpaint.found_before]
    assert len(found) > 0
    assert found.success.notna().all()
    assert inpaint[~inpaint.found_before].success.isna().all()
    for name in result.inpainters:
        of_name = found[found.inpainter == name]
        assert result.inpainters[name]["success"] == pytest.approx(of_name.success.astype(float).mean())
    ours, once = (found[found.inpainter == name].set_index("example_id") for name in ("ours", "occluders"))
    assert (ours[once.success.astype(bool)].attempts == 1).all()  # what is gone at once is not tried again
    assert (ours[~once.success.astype(bool)].attempts > 1).all()
    metrics = json.loads((result.out / "metrics.json").read_text())
    assert metrics["num_examples"] == len(ids)
    estimate = metrics["statistics"]["segment"]["models"]["tiny"]["box_dice"]
    assert estimate["low"] < metrics["segmenters"]["tiny"]["box_dice"] < estimate["high"]

    html = (result.out / "evaluation.html").read_text("utf-8")
    assert html.count("Worst: “") == html.count("Best: “") > 0
    assert "as it must be" in html
    assert re.search(r"(ours: \d+\.\d dB(, gone|, still found)?)</figcaption>", html)
    client = mlflow_client(str(store.tracking_uri))
    logged = client.get_run(result.run_id).data.metrics
    assert logged["location-prior.box_dice"] == pytest.approx(prior.box_dice.mean())
    assert logged["tiny.box_dice_low"] == pytest.approx(estimate["low"])
    assert logged["ours.success"] == pytest.approx(result.inpainters["ours"]["success"])
    kept = {Path(file.path).name for file in client.list_artifacts(result.run_id, "evaluation")}
    assert {"evaluation.html", "metrics.json", "segment-scores.csv", "segment-pairs.csv"} <= kept

    promotion = promote(PromoteJob(model=trained.out, tracking=store))
    assert promotion.promoted
    champion = registered_folder("segmenter", store)
    assert read_manifest(champion) == read_manifest(trained.out)


@pytest.fixture(scope="module")
def with_networks(
    prepared_scenes: Path, plain_models: PlainModels, tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    """An evaluation of four examples, with the networks of the perceptual scores (random weights)."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "checkpoints").mkdir()
    for file, network in (
        (ALEXNET, torchvision.models.alexnet(weights=None)),
        (INCEPTION, torchvision.models.inception_v3(weights=None, init_weights=False)),
    ):
        torch.save(network.state_dict(), folder / file)
    job = EvaluateJob(
        data=str(prepared_scenes),
        out=folder / "out",
        segmenter=(plain_models.segmenter,),
        base=plain_models.inpainter,
        variants=("telea", "navier-stokes"),
        torch_cache=str(folder),
        limit=4,
        tracking=NOWHERE,
    )
    return evaluate(job, say=lambda line: None)


def test_local_fid_is_of_all_examples_and_where_its_network_is(with_networks: Evaluation) -> None:
    for scores in with_networks.inpaint.models.values():
        assert scores["local_fid"].mean > 0
        assert (scores["local_fid"].num_rows, scores["local_fid"].low) == (4, None)
        assert scores["lpips"].mean > 0
    html = (with_networks.out / "evaluation.html").read_text("utf-8")
    assert html.count("local FID") == 1  # a column; its absence is not excused


def test_a_limit_takes_the_same_examples_every_time(
    with_networks: Evaluation, prepared_scenes: Path, plain_models: PlainModels, tmp_path: Path
) -> None:
    job = EvaluateJob(
        data=str(prepared_scenes),
        out=tmp_path / "again",
        segmenter=(plain_models.segmenter,),
        base="",
        limit=4,
        num_actors=1,
        tracking=NOWHERE,
    )
    evaluate(job, say=lambda line: None)
    rows, again = (
        pq.read_table(out / "segment.parquet").drop(["seconds"]).to_pylist()
        for out in (with_networks.out, job.out)
    )
    assert rows == again
    assert len({row["example_id"] for row in rows}) == 4
    ordered = [row["example_id"] for row in islice(prepared_rows(prepared_scenes, split="test"), 4)]
    assert {row["example_id"] for row in rows} != set(ordered)  # a sample, not the first photos
