"""What integration tests share: models without weights worth having, and a training on two workers."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from textremove.onray import train_segmenter as train_segmenter_module
from textremove.onray.tracking import TrackingConfig
from textremove.onray.train_segmenter import SegmenterJob, SegmenterResult, train_segmenter
from textremove.pipe.prepared import DATASET_FILE
from textremove.segment.training import SegmenterTrainConfig

QUICK = SegmenterTrainConfig(epochs=3, batch_size=8, absent_share=0.25)  # at the paper's rates


@dataclass(frozen=True, kw_only=True)
class PlainModels:
    """Folders that `load_segmenter` and `load_inpainter` take.

    Attributes:
        segmenter: Answers by the place words alone; finds nothing for "... at the nowhere".
        inpainter: A diffusion base with random weights: every seed fills in something else.
        adapter: A LoRA folder with random weights for it.
    """

    segmenter: str
    inpainter: str
    adapter: str


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PIPE and PIPE_Masks of 60 procedural scenes in a dozen shards or more, to be interrupted among."""
    from textremove.pipe.scene_rows import write_scene_shards
    from textremove.pipe.scenes import SceneConfig

    out = tmp_path_factory.mktemp("many")
    write_scene_shards(out, seed=8, num_scenes=60, rows_per_shard=8, config=SceneConfig(size=64))
    return out


@pytest.fixture(scope="session")
def plain_models(tmp_path_factory: pytest.TempPathFactory) -> PlainModels:
    import torch

    from textremove.inpaint.lora import LoraSpec, add_lora, save_lora
    from textremove.inpaint.tiny import PROMPT_LENGTH, TEXT_WIDTH, build_pipeline, build_unet, build_vae
    from textremove.segment.location_prior import LocationPriorSegmenter
    from textremove.text import build_text_encoder, build_tokenizer

    folder = tmp_path_factory.mktemp("models")
    LocationPriorSegmenter(
        {"": (0.25, 0.25, 0.75, 0.75), "left": (0.05, 0.3, 0.4, 0.8), "nowhere": (0.0, 0.0, 0.0, 0.0)}
    ).save_pretrained(folder / "segmenter")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["ball"], max_length=PROMPT_LENGTH)
    text_encoder = build_text_encoder(tokenizer, width=TEXT_WIDTH, num_layers=1)
    unet = build_unet()
    unet.register_to_config(sample_size=8)  # fills squares of 32 px, which is soon done
    build_pipeline(build_vae(), unet, text_encoder, tokenizer).save_pretrained(folder / "inpainter")
    with torch.no_grad():
        for parameter in add_lora(unet, LoraSpec()):
            parameter.normal_()
    save_lora(unet, folder / "adapter", spec=LoraSpec(), metadata={})
    return PlainModels(
        segmenter=str(folder / "segmenter"),
        inpainter=str(folder / "inpainter"),
        adapter=str(folder / "adapter"),
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    return TrackingConfig(tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture(scope="session")
def said() -> list[str]:
    return []


@pytest.fixture(scope="session")
def uneven_scenes(prepared_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared scenes with odd numbers of training and validation rows: an even split would drop some."""
    folder = shutil.copytree(prepared_scenes, tmp_path_factory.mktemp("uneven") / "scenes")
    info = json.loads((folder / DATASET_FILE).read_text())
    for split in ("train", "val"):
        if info["splits"][split]["examples"] % 2 == 0:
            entry = next(entry for entry in info["files"] if entry["split"] == split)
            rows = pq.read_table(folder / entry["path"], partitioning=None)
            pq.write_table(rows[1:], folder / entry["path"])
            entry["examples"] -= 1
            info["splits"][split]["examples"] -= 1
    (folder / DATASET_FILE).write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="session")
def trained(
    uneven_scenes: Path, store: TrackingConfig, said: list[str], tmp_path_factory: pytest.TempPathFactory
) -> SegmenterResult:
    """A tiny segmenter from nothing, after three epochs on two workers, its pictures streamed."""
    out = tmp_path_factory.mktemp("trained") / "segmenter"
    job = SegmenterJob(data=str(uneven_scenes), out=out, image_size=64, training=QUICK, tracking=store)
    with pytest.MonkeyPatch.context() as patch:
        keep_nothing_decoded(patch)
        return train_segmenter(job, say=said.append)


def keep_nothing_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes trainings stream their pictures, though they are few."""
    monkeypatch.setattr(train_segmenter_module, "_STORE_SHARE", 0.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
