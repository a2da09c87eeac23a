from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray
from ray.data import DataContext

from textremove.onray.cluster import connect

pytestmark = pytest.mark.integration


def test_a_connection_inside_another_joins_it_and_leaves_it_open(ray_session: None) -> None:
    with connect(num_cpus=1):
        assert ray.cluster_resources()["CPU"] == 4  # of the session, not another Ray with one
    assert ray.is_initialized()


def test_settings_of_data_are_put_back_when_an_inner_connection_ends(ray_session: None) -> None:
    context = DataContext.get_current()
    context.execution_no_progress_timeout_s = 77
    try:
        with connect():
            assert context.execution_no_progress_timeout_s == 300
            assert not context.use_datasource_v2
        assert context.execution_no_progress_timeout_s == 77
    finally:
        context.execution_no_progress_timeout_s = 300


ASK = """
import os, ray
from ray.util.state import get_actor
from textremove.onray.cluster import connect

@ray.remote
class Guard:
    def state(self):
        return get_actor(ray.get_runtime_context().get_actor_id(), timeout=20).state

with connect(num_cpus=1):
    print("state:", ray.get(Guard.remote().state.remote(), timeout=60))
print("left:", os.environ.get("RAY_API_SERVER_ADDRESS"))
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ray_s_own_actors_ask_this_cluster_whatever_another_one_left_behind() -> None:
    """Ray Train's guard would wait for the dead cluster at the end of every training."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path must be short
        root = Path(folder) / "ray"
        root.mkdir()
        (root / "ray_current_cluster").write_text("127.0.0.1:1")
        asked = subprocess.run(
            [sys.executable, "-c", ASK],
            env=os.environ | {"RAY_TMPDIR": folder, "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
    assert asked.stdout.splitlines() == ["state: ALIVE", "left: http://127.0.0.1:1"], asked.stderr
