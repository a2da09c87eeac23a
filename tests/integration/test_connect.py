from __future__ import annotations

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
