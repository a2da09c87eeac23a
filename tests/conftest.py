"""What tests share: one local Ray for the session, the real photos where there are any, small scenes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Ray reads these when it is imported or started, so they are set before any test module is.
for _name, _value in {
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Of the S3 server on loopback; Ray's workers find them where S3 credentials usually are.
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
}.items():
    os.environ.setdefault(_name, _value)
os.environ.pop("RAY_ADDRESS", None)  # tests never run on somebody's cluster
# A shell has what it puts in the background ignore Ctrl-C, and the jobs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402

REPO = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--dataset", help="a prepared folder, for the checks in tests/data and tests/model")
    parser.addoption("--model", help="a segmenter's folder, for the checks in tests/model")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all tests that need one; jobs run in-process join it."""
    from textremove.onray.cluster import connect

    with connect(num_cpus=4):
        yield


@pytest.fixture(scope="session")
def pipe_coco() -> Path:
    """The folder of real photos in PIPE's format; skips where there is none."""
    shared = Path(os.environ.get("TEXTREMOVE_SHARED", REPO.parent / "shared"))
    folder = shared / "pipe-coco"
    if not folder.is_dir():
        pytest.skip("no pipe-coco here; TEXTREMOVE_SHARED names the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def scene_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with PIPE and PIPE_Masks of 40 procedural scenes of 64 px, in several shards."""
    from textremove.pipe.scene_rows import write_scene_shards
    from textremove.pipe.scenes import SceneConfig

    out = tmp_path_factory.mktemp("scenes")
    write_scene_shards(out, seed=7, num_scenes=40, rows_per_shard=32, config=SceneConfig(size=64))
    return out


@pytest.fixture(scope="session")
def prepared_scenes(ray_session: None, scene_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of those scenes, all three splits in it."""
    from textremove.onray.prepare import PrepareConfig, prepare

    out = tmp_path_factory.mktemp("prepared") / "scenes"
    prepare(PrepareConfig(images=scene_shards / "PIPE", masks=scene_shards / "PIPE_Masks", out=out))
    return out


@pytest.fixture(scope="session")
def prepared_coco(ray_session: None, pipe_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of the real photos at their own sizes."""
    from textremove.onray.prepare import PrepareConfig, prepare

    out = tmp_path_factory.mktemp("prepared") / "coco"
    prepare(PrepareConfig(images=pipe_coco / "PIPE", masks=pipe_coco / "PIPE_Masks", out=out))
    return out
