"""An S3 server on loopback: shards are read from it, prepared to it, and read back as examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from textremove.errors import ConfigError, DatasetError
from textremove.inpaint.holes import HoleConfig
from textremove.inpaint.latents import load_encoder
from textremove.onray.datasets import read_prepared
from textremove.onray.inpainter_squares import PICTURE_COLUMNS
from textremove.onray.latents import EncodeJob, cached_latents, read_latents
from textremove.onray.prepare import PAGE_FILE, PrepareConfig, prepare
from textremove.onray.row_files import RowFiles
from textremove.pipe.prepared import DATASET_FILE, prepared_rows, read_dataset_info
from textremove.schema import SPLITS
from textremove.storage import open_store

from .conftest import PlainModels

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Address of an empty bucket; the credentials are those that tests/conftest.py sets."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        import boto3

        client = boto3.client("s3")
        client.create_bucket(Bucket="photos")
        client.close()
        yield "s3://photos"
    server.stop()


def test_prepared_from_s3_to_s3_it_is_what_it_is_on_disk(
    ray_session: None, bucket: str, scene_shards: Path, prepared_scenes: Path
) -> None:
    store = open_store(f"{bucket}/raw")
    for path in sorted(scene_shards.rglob("*.parquet")):
        store.write(path.relative_to(scene_shards).as_posix(), path.read_bytes())
    job = PrepareConfig(images=f"{bucket}/raw/PIPE", masks=f"{bucket}/raw/PIPE_Masks", out=f"{bucket}/out")
    prepare(job)
    out = open_store(job.out)
    assert json.loads(out.read(DATASET_FILE)) == json.loads((prepared_scenes / DATASET_FILE).read_text())
    assert {name.split("/")[0] for name in out.files()} == {
        DATASET_FILE,
        PAGE_FILE,
        *(f"split={split}" for split in SPLITS),
    }
    columns = ["example_id", "prompt"]
    ours = list(prepared_rows(job.out, split="train", columns=columns))
    assert ours == list(prepared_rows(prepared_scenes, split="train", columns=columns))
    streamed = read_prepared(job.out, split="train").select_columns(columns).take_all()
    assert sorted(map(str, streamed)) == sorted(map(str, ours))
    with pytest.raises(ConfigError, match="is there already and not empty"):
        prepare(job)


def test_latents_are_kept_on_s3(
    ray_session: None, bucket: str, prepared_scenes: Path, plain_models: PlainModels
) -> None:
    encoder, lines = load_encoder(plain_models.inpainter), []
    job = EncodeJob(
        rows=RowFiles.of_training(str(prepared_scenes), PICTURE_COLUMNS).first(70),
        fingerprint="scenes",
        base=plain_models.inpainter,
        holes=HoleConfig(),
        seed=0,
        location=f"{bucket}/latents",
        num_actors=1,
        gpu=False,
        cpus=0.5,
    )
    rows = cached_latents(job, encoder, say=lines.append)
    assert len(rows.files) == len(open_store(f"{bucket}/latents").files(".parquet")) > 1
    assert len(read_latents(rows.read(0, [1, 0]).to_pydict())) == 2
    assert cached_latents(job, encoder, say=lines.append) == rows
    assert lines[-1].endswith("already")


def test_what_is_not_there_is_one_line(ray_session: None, bucket: str) -> None:
    with pytest.raises(DatasetError, match="there is no folder s3://photos/nothing"):
        prepare(PrepareConfig(images=f"{bucket}/nothing", masks=f"{bucket}/nothing", out=f"{bucket}/x"))
    with pytest.raises(DatasetError, match="there is no prepared folder s3://photos/nothing"):
        read_dataset_info(f"{bucket}/nothing")
