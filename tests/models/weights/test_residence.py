"""Where weights are: as the kernel says of real files."""

from __future__ import annotations

import os

import pytest

from models.weights.hashing import Pace, Stopped
from models.weights.residence import REMOTE, cached_bytes_of, residence, warm
from tests.models.weights.conftest import MiB


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.safetensors"
    with path.open("wb") as opened:
        opened.write(os.urandom(4 * MiB))
        os.fsync(opened.fileno())
    return path


def drop(path):
    """Out of the page cache."""
    with path.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path, size_bytes):
    with path.open("rb", buffering=0) as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no more than is asked for
        opened.read(size_bytes)


def test_what_was_read_is_in_the_page_cache(file):
    drop(file)
    assert cached_bytes_of(file)[1] < MiB
    read(file, 4 * MiB)
    assert residence([file]).tier == "page_cache"
    assert residence([file]).cached_fraction == 1.0


def test_half_of_it_is_not_enough(file):
    drop(file)
    read(file, 2 * MiB)
    found = residence([file])
    assert found.tier == "disk"
    assert 0.4 < found.cached_fraction < 0.8
    assert found.bytes == 4 * MiB


def test_looking_brings_nothing_in(file):
    drop(file)
    before = cached_bytes_of(file)[1]
    assert cached_bytes_of(file)[1] == before


def test_warming_brings_it_in_at_the_rate_that_is_given(file, clock):
    drop(file)
    pace = Pace(8 * MiB, clock=clock, sleep=clock.sleep)
    assert warm([file, file], 0, pace=pace) == 8 * MiB
    assert residence([file]).tier == "page_cache"
    assert sum(clock.slept_s) >= 2.0


def test_warming_ends_when_it_is_told_to(file):
    with pytest.raises(Stopped):
        warm([file], 0, pace=Pace(stop=lambda: True))


@pytest.mark.parametrize("files", [[], ["none"], ["empty"]])
def test_what_is_not_here_is_remote(tmp_path, files):
    (tmp_path / "empty").touch()
    assert residence(tmp_path / name for name in files) == REMOTE


def test_of_a_model_its_layout_counts_once_there_is_one(store, folder):
    drop(folder / "model.safetensors")
    assert store.where(folder).bytes == (folder / "model.safetensors").stat().st_size
    layout = store.prepare("r1", folder)
    (layout / "key.safetensors").write_bytes(b"x" * 5000)
    assert store.where(folder) == residence([layout / "key.safetensors"])
    assert store.where(folder).bytes == 5000
    assert store.where(folder / "none") == REMOTE
