from __future__ import annotations

import os

import pytest

from textremove.onray.cluster import MIN_LOCAL_CPUS, _unheard, local_cpus, object_store_bytes

GB = 2**30


def test_a_small_machine_is_overcommitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert local_cpus() == MIN_LOCAL_CPUS
    assert local_cpus(2) == 2  # as asked


def test_a_large_machine_is_used_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(48)))
    assert local_cpus() == 48


def test_the_object_store_fits_the_machine() -> None:
    assert object_store_bytes(memory=8 * GB, shared_memory=4 * GB) == 8 * GB // 5
    assert object_store_bytes(memory=500 * GB, shared_memory=250 * GB) == 4 * GB
    assert object_store_bytes(memory=16 * GB, shared_memory=1 * GB) < 1 * GB
    assert object_store_bytes(memory=16 * GB, shared_memory=64 * 2**20) == 128 * 2**20  # of a container


def test_what_ray_says_while_it_ends_is_dropped_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    with _unheard():
        os.write(2, b"from below\n")
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"
