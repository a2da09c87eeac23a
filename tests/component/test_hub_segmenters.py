"""CLIPSeg, SAM 3, and Grounding DINO with SAM 2 as segmenters: small checkpoints in the hub's layout.

Their weights are random, so what they find means nothing; what is found where is tested on known objects in
tests/unit/test_instances.py.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file

from textremove.errors import ConfigError, WeightsError
from textremove.onray.models import absolute, short
from textremove.presets import HUB_SEGMENTERS, SD2_INPAINTING, check_models, load_segmenter, resolve_base
from textremove.pretraining import vocabulary
from textremove.removal import Remover
from textremove.segment.clipseg import ClipSegSegmenter
from textremove.segment.grounded_sam2 import GroundedSam2Segmenter
from textremove.segment.instances import Instance
from textremove.segment.sam3 import Sam3Segmenter
from textremove.text import build_tokenizer

MEMBERS = ("clipseg", "sam3", "grounded")
SIZES = ((40, 60), (97, 31), (3, 200))


def _text_sizes(tokenizer: Any, **sizes: int) -> dict[str, Any]:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return ids | {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length} | sizes


def _tiny(layers: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    return sizes | {"num_hidden_layers": layers} | more


def save_clipseg(folder: Path, *, full: bool = False) -> None:
    tokenizer = build_tokenizer(vocabulary(), max_length=77 if full else 16)
    text = _text_sizes(tokenizer, **({} if full else _tiny(2)))
    vision = {"patch_size": 16} | ({} if full else _tiny(3, image_size=48))
    sizes = {} if full else {"projection_dim": 32, "reduce_dim": 16, "extract_layers": [0, 1, 2]}
    config = hf.CLIPSegConfig(
        text_config=text, vision_config=vision, use_complex_transposed_convolution=True, **sizes
    )
    side = 352 if full else 64
    processor = hf.CLIPSegProcessor(hf.ViTImageProcessor(size={"height": side, "width": side}), tokenizer)
    for part in (hf.CLIPSegForImageSegmentation(config), processor):
        part.save_pretrained(folder)


def save_sam3(folder: Path) -> None:
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


def save_grounding_dino(folder: Path, *, full: bool = False) -> None:
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


def sam2_sizes(*, full: bool = False) -> dict[str, Any]:
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


def save_sam2(folder: Path, *, full: bool = False) -> None:
    side = 1024 if full else 128
    hf.Sam2Model(hf.Sam2Config(**sam2_sizes(full=full))).save_pretrained(folder)
    hf.Sam2Processor(hf.Sam2ImageProcessor(size={"height": side, "width": side})).save_pretrained(folder)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small checkpoint of each model."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    for save, name in (
        (save_clipseg, "clipseg"),
        (save_sam3, "sam3"),
        (save_grounding_dino, "dino"),
        (save_sam2, "sam2"),
    ):
        save(root / name)
    return root


def source_of(hub: Path, member: str) -> str:
    return f"{hub / 'dino'}+{hub / 'sam2'}" if member == "grounded" else str(hub / member)


@pytest.fixture(scope="module")
def loaded(hub: Path) -> dict[str, Any]:
    """Each member, loaded by its folder's name alone; thresholds such that random weights find something."""
    members: dict[str, Any] = {name: load_segmenter(source_of(hub, name)) for name in MEMBERS}
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


@pytest.mark.parametrize("member", MEMBERS)
def test_the_device_is_the_one_asked_for(member: str, hub: Path) -> None:
    segmenter: Any = load_segmenter(source_of(hub, member), device="meta")
    models = [segmenter.detector, segmenter.masker] if member == "grounded" else [segmenter.model]
    assert {parameter.device.type for model in models for parameter in model.parameters()} == {"meta"}


def test_the_video_models_that_are_published_hold_the_image_models(hub: Path, tmp_path: Path) -> None:
    # SAM 2.1 and SAM 3 are published as video models, the second with the image model under a prefix.
    video = hf.Sam2VideoModel(hf.Sam2VideoConfig(**sam2_sizes(), memory_attention_hidden_size=32))
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


def _refused(source: str, words: str, *, by: Any = load_segmenter, kind: Any = WeightsError) -> None:
    with pytest.raises(kind, match=words) as mistake:
        by(source)
    assert "\n" not in str(mistake.value)


def _check(source: str) -> None:
    check_models(source, "telea")


@pytest.mark.parametrize("name", ["clipseg", "sam3", "dino", "sam2"])
def test_damaged_and_incomplete_weights_are_one_line(name: str, hub: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(hub / name, folder)
    pair = {"dino": f"{folder}+{hub / 'sam2'}", "sam2": f"{hub / 'dino'}+{folder}"}
    source, weights = pair.get(name, str(folder)), folder / "model.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)
    # transformers itself would start these at random, and warn.
    dropped = next(key for key in sorted(tensors, reverse=True) if key.endswith("weight"))
    save_file({key: tensor for key, tensor in tensors.items() if key != dropped}, weights)
    _refused(source, f"{folder} lacks 1 of its weights, {dropped}")
    other = tensors | {dropped: torch.zeros(3, 5)}
    save_file(other, weights)
    _refused(source, f"{folder} cannot be loaded")
    weights.write_bytes(whole[: len(whole) // 2])
    _refused(source, f"{folder} cannot be loaded")
    weights.unlink()
    _refused(source, f"{folder} has a config.json but no weights", by=_check)
    weights.write_bytes(whole)
    _check(source)
    (folder / "config.json").write_text("{")
    _refused(source, "does not say what model", by=_check)


def test_what_is_no_segmenter_is_refused_before_anything_is_loaded(hub: Path, tmp_path: Path) -> None:
    _refused(str(hub / "dino"), "one half of a segmenter", by=_check)
    _refused(f"{hub / 'sam2'}+{hub / 'dino'}", r"holds a sam2\+grounding-dino, no segmenter", by=_check)
    _refused(str(tmp_path), "neither a manifest.json nor a config.json; it holds no segmenter", by=_check)
    for name in ("huge", "clipseg+", "+", "tiny+tiny"):
        _refused(name, "unknown segmenter .*; choose tiny, paper, clipseg", by=_check, kind=ConfigError)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    _refused(str(tmp_path), "holds a bert, no segmenter", by=_check)


def test_names_travel_to_workers_and_into_results(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hub)
    assert absolute("dino+sam2") == f"{hub / 'dino'}+{hub / 'sam2'}"
    assert absolute("clipseg") == str(hub / "clipseg")
    assert short(f"{hub / 'dino'}+facebook/sam2.1-hiera-small") == "dino+facebook/sam2.1-hiera-small"
    monkeypatch.chdir(hub / "dino")
    for name in ("zero-shot", *HUB_SEGMENTERS.values()):
        assert absolute(name) == short(name) == name
    assert resolve_base("zero-shot") == SD2_INPAINTING


def test_a_removal_takes_any_of_them(loaded: dict[str, Any], photos: list[np.ndarray]) -> None:
    from textremove.inpaint.classical import ClassicalInpainter

    for member in MEMBERS:
        found = loaded[member].segment(photos[:1], ["ball"])[0]
        removal = Remover(loaded[member], ClassicalInpainter("telea")).remove(photos[0], "the ball")
        assert np.array_equal(removal.mask, found.mask)
        assert removal.found == found.found


def _textremove(hub_home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    # A port where nobody listens: the same as no network, wherever the test runs.
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(hub_home)}
    return subprocess.run(
        [sys.executable, "-c", "from textremove.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | nowhere,
    )


def test_the_shell_takes_them_and_a_hub_that_is_not_there_is_one_line(
    hub: Path, photos: list[np.ndarray], tmp_path: Path
) -> None:
    clipseg = tmp_path / "clipseg"
    shutil.copytree(hub / "clipseg", clipseg)
    tensors = load_file(clipseg / "model.safetensors")
    last = max(name for name in tensors if name.startswith("decoder.transposed_convolution"))
    constant = {last: torch.zeros_like(tensors[last])}
    constant[last.replace("weight", "bias")] = torch.full((1,), -9.0)
    save_file(tensors | constant, clipseg / "model.safetensors")  # now it never finds anything
    Image.fromarray(photos[0]).save(tmp_path / "photo.png")
    remove = ("remove", tmp_path / "photo.png", "ball", "--out", tmp_path / "out.png", "--inpainter", "telea")
    done = _textremove(tmp_path, *remove, "--segmenter", clipseg)
    assert done.returncode == 3, done.stderr
    assert "not found: 'ball'" in done.stdout
    assert done.stderr == ""
    for name, source in (("zero-shot", "IDEA-Research/grounding-dino-tiny"), ("clipseg", "CIDAS/clipseg")):
        done = _textremove(tmp_path, *remove, "--segmenter", name)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {source}")
        assert done.stderr.endswith("give its local folder instead of the hub id\n")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


@pytest.mark.fullsize
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("member", ["clipseg", "grounded"])
def test_one_prediction_at_the_public_sizes(member: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if member == "clipseg":
        save_clipseg(tmp_path / "clipseg", full=True)
    else:
        save_grounding_dino(tmp_path / "dino", full=True)
        save_sam2(tmp_path / "sam2", full=True)
    started = time.perf_counter()
    segmenter: Any = load_segmenter(source_of(tmp_path, member))
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
    assert millions == pytest.approx({"clipseg": 151, "grounded": 218}[member], rel=0.03)
