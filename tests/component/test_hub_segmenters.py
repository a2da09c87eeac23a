"""CLIPSeg, SAM 3, and Grounding DINO with SAM 2 as segmenters: small checkpoints in the hub's layout.

Their weights are random, so what they find means nothing; what is found where is tested on known objects in
tests/unit/test_instances.py.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from textremove.onray.models import absolute
from textremove.presets import HUB_SEGMENTERS, SD2_INPAINTING, load_segmenter, resolve_base
from textremove.segment.clipseg import ClipSegSegmenter
from textremove.segment.grounded_sam2 import GroundedSam2Segmenter
from textremove.segment.instances import Instance, parse_request, segmentation_from_instances
from textremove.segment.sam3 import Sam3Segmenter

MEMBERS = ("clipseg", "sam3", "grounded")
SIZES = ((40, 60), (97, 31), (3, 200))


@pytest.fixture(scope="module")
def loaded(hub_sources: dict[str, str]) -> dict[str, Any]:
    """Each member, loaded by its folder's name alone; thresholds such that random weights find something."""
    members: dict[str, Any] = {name: load_segmenter(hub_sources[name]) for name in MEMBERS}
    assert [type(one) for one in members.values()] == [ClipSegSegmenter, Sam3Segmenter, GroundedSam2Segmenter]
    assert members["clipseg"].threshold == 0.4  # the paper's
    assert members["clipseg"].strategy == "box"
    for member in members.values():
        member.threshold = 0.0
    return members


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in SIZES]


@pytest.mark.parametrize("member", MEMBERS)
def test_masks_are_of_the_photo_s_size_and_the_same_alone_and_in_a_batch(
    member: str, loaded: dict[str, Any], photos: list[np.ndarray]
) -> None:
    prompts = ["ball at the left", "stars", "ball " * 300]  # the last is longer than any of them reads
    together = loaded[member].segment(photos, prompts)
    for photo, prompt, answer in zip(photos, prompts, together, strict=True):
        alone = loaded[member].segment([photo], [prompt])[0]
        for array, other in ((answer.mask, alone.mask), (answer.raw, alone.raw)):
            assert array.shape == photo.shape[:2]
            assert array.dtype == np.uint8
            assert set(np.unique(array)) <= {0, 255}
            assert np.array_equal(array, other)
        assert answer.score == alone.score
        assert 0 <= answer.score <= 1
        assert answer.found == bool(answer.mask.any())
    loaded[member].threshold = 1.0
    try:
        nothing = loaded[member].segment(photos[:1], prompts[:1])[0]
    finally:
        loaded[member].threshold = 0.0
    assert not nothing.found
    assert not nothing.mask.any()


def test_clipseg_s_probabilities_cover_the_whole_photo(
    loaded: dict[str, Any], photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = loaded["clipseg"]
    logits_1HW = torch.full((1, 64, 64), -9.0)
    logits_1HW[:, :16, 48:] = 9.0  # the top right sixteenth of the square, and so of the photo
    answer = type("Answer", (), {"logits": logits_1HW})
    monkeypatch.setattr(segmenter.model, "forward", lambda **inputs: answer)
    monkeypatch.setattr(segmenter, "threshold", 0.4)
    found = segmenter.segment([np.zeros((80, 200, 3), np.uint8)], ["ball at the top right"])[0]
    rows, columns = np.flatnonzero(found.mask.any(axis=1)), np.flatnonzero(found.mask.any(axis=0))
    assert found.found
    assert (rows[0], rows[-1]) == pytest.approx((0, 19), abs=1)
    assert (columns[0], columns[-1]) == pytest.approx((150, 199), abs=2)


@pytest.mark.parametrize("member", ["sam3", "grounded"])
def test_place_words_choose_among_what_was_found(
    member: str, loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def find(image: np.ndarray, what: str) -> list[Instance]:
        asked.append(what)
        probability = np.zeros((2, 8, 8), np.float32)
        probability[0, :, :2] = probability[1, :, 6:] = 1.0
        boxes = ((0.0, 0.0, 0.25, 1.0), (0.75, 0.0, 1.0, 1.0))
        return [Instance(box=boxes[k], probability=probability[k], score=0.5 + k / 4) for k in (0, 1)]

    monkeypatch.setattr(loaded[member], "instances", find)
    photo = np.zeros((16, 32, 3), np.uint8)
    left, right, both, none = loaded[member].segment(
        [photo] * 4, ["ball at the left", "ball at the right", "balls", "ball at the center"]
    )
    assert asked == ["ball", "ball", "balls", "ball"]
    assert left.mask[:, :7].all()
    assert not left.mask[:, 16:].any()
    assert np.array_equal(right.mask, left.mask[:, ::-1])
    assert np.array_equal(both.mask, left.mask | right.mask)
    assert (left.score, right.score, none.found) == (0.5, 0.75, False)


def test_boxes_are_fractions_of_the_photo(loaded: dict[str, Any]) -> None:
    segmenter = loaded["grounded"]
    photo = np.random.default_rng(1).integers(0, 256, (50, 120, 3), dtype=np.uint8)
    instances = segmenter.instances(photo, "ball")
    inputs = segmenter.detector_processor(images=photo, text="ball.", return_tensors="pt")
    with torch.inference_mode():
        outputs = segmenter.detector(**inputs)
    theirs = segmenter.detector_processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.0, target_sizes=[(50, 120)]
    )[0]
    order = theirs["scores"].argsort(descending=True)
    boxes_N4 = theirs["boxes"][order].clamp(torch.zeros(4), torch.tensor([120.0, 50.0, 120.0, 50.0]))
    ours_N4 = np.array([one.box for one in instances]) * (120, 50, 120, 50)
    assert len(instances) == 20
    assert np.allclose(ours_N4, boxes_N4.numpy(), atol=1e-3)


def test_sam_3_s_objects_are_those_of_its_own_post_processing(loaded: dict[str, Any]) -> None:
    segmenter = loaded["sam3"]
    photo = np.random.default_rng(3).integers(0, 256, (50, 120, 3), dtype=np.uint8)
    inputs = segmenter.processor(images=photo, text="ball", return_tensors="pt")
    with torch.inference_mode():
        outputs = segmenter.model(**inputs)
    theirs = segmenter.processor.post_process_instance_segmentation(
        outputs, threshold=0.0, mask_threshold=0.5, target_sizes=[(50, 120)]
    )[0]
    ours = segmenter.instances(photo, "ball")
    assert len(ours) == 10
    assert np.allclose([one.score for one in ours], theirs["scores"].numpy())
    boxes_N4 = theirs["boxes"].clamp(torch.zeros(4), torch.tensor([120.0, 50.0, 120.0, 50.0]))
    assert np.allclose(np.array([one.box for one in ours]) * (120, 50, 120, 50), boxes_N4.numpy(), atol=1e-3)
    for one, mask in zip(ours, theirs["masks"].numpy(), strict=True):
        alone = segmentation_from_instances([one], parse_request("ball"), height=50, width=120)
        assert ((alone.mask > 0) == (mask > 0)).mean() > 0.99


@pytest.mark.parametrize("member", MEMBERS)
def test_the_device_is_the_one_asked_for(member: str, hub_sources: dict[str, str]) -> None:
    segmenter: Any = load_segmenter(hub_sources[member], device="meta")
    models = [segmenter.detector, segmenter.masker] if member == "grounded" else [segmenter.model]
    assert {parameter.device.type for model in models for parameter in model.parameters()} == {"meta"}


def test_the_video_models_that_are_published_hold_the_image_models(
    hub: Path, tmp_path: Path, small_sam2_sizes: dict[str, Any]
) -> None:
    # SAM 2.1 and SAM 3 are published as video models, the second with the image model under a prefix.
    video = hf.Sam2VideoModel(hf.Sam2VideoConfig(**small_sam2_sizes, memory_attention_hidden_size=32))
    shutil.copytree(hub / "sam2", tmp_path / "sam2")
    tensors = load_file(hub / "sam2" / "model.safetensors")
    memory = {name: tensor for name, tensor in video.state_dict().items() if name.startswith("memory_")}
    assert memory
    save_file(tensors | {k: v.contiguous() for k, v in memory.items()}, tmp_path / "sam2/model.safetensors")
    shutil.copytree(hub / "sam3", tmp_path / "sam3")
    tensors = load_file(hub / "sam3" / "model.safetensors")
    prefixed = {f"detector_model.{name}": tensor for name, tensor in tensors.items()}
    prefixed["tracker_model.memory"] = torch.zeros(3)
    save_file(prefixed, tmp_path / "sam3" / "model.safetensors")
    config = json.loads((hub / "sam3" / "config.json").read_text())
    whole = {"model_type": "sam3_video", "detector_config": config, "tracker_config": {}}
    (tmp_path / "sam3" / "config.json").write_text(json.dumps(whole))
    config = json.loads((hub / "sam2" / "config.json").read_text())
    (tmp_path / "sam2" / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))
    photo = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for name, image, from_video in (
        ("sam3", hub / "sam3", tmp_path / "sam3"),
        ("grounded", f"{hub / 'dino'}+{hub / 'sam2'}", f"{hub / 'dino'}+{tmp_path / 'sam2'}"),
    ):
        members: list[Any] = [load_segmenter(str(image)), load_segmenter(str(from_video))]
        for member in members:
            member.threshold = 0.0
        one, other = (member.instances(photo, "ball") for member in members)
        assert [x.box for x in one] == [x.box for x in other], name
        assert all(np.array_equal(x.probability, y.probability) for x, y in zip(one, other, strict=True))


def test_names_travel_to_workers_and_into_results(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hub)
    assert absolute("dino+sam2") == f"{hub / 'dino'}+{hub / 'sam2'}"
    assert absolute("dino") == str(hub / "dino")
    assert absolute("clipseg") == "clipseg"  # a preset, though a folder here is called the same
    monkeypatch.chdir(hub / "dino")
    for name in ("zero-shot", *HUB_SEGMENTERS.values()):
        assert absolute(name) == name
    assert resolve_base("zero-shot") == SD2_INPAINTING


@pytest.mark.fullsize
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("member", ["clipseg", "grounded"])
def test_one_prediction_at_the_public_sizes(
    member: str, tmp_path: Path, save_full_size: dict[str, Callable[[Path], None]]
) -> None:
    torch.manual_seed(0)
    parts = [tmp_path / name for name in (["clipseg"] if member == "clipseg" else ["dino", "sam2"])]
    for folder in parts:
        save_full_size[folder.name](folder)
    started = time.perf_counter()
    segmenter: Any = load_segmenter("+".join(map(str, parts)))
    loaded = time.perf_counter()
    segmenter.threshold = 0.0  # all boxes there may be: with random weights, the most there is to do
    photo = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), dtype=np.uint8)
    answer = segmenter.segment([photo], ["person at the left"])[0]
    done = time.perf_counter()
    models = [segmenter.detector, segmenter.masker] if member == "grounded" else [segmenter.model]
    millions = sum(p.numel() for model in models for p in model.parameters()) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(
        f"\n{member}: {millions:.0f} M parameters, loaded in {loaded - started:.1f} s, one photo of 1280x960 "
        f"in {done - loaded:.1f} s, {peak:.1f} GiB at the peak\n"
    )
    assert answer.mask.shape == (960, 1280)
    assert millions == pytest.approx({"clipseg": 151, "grounded": 211}[member], rel=0.03)
