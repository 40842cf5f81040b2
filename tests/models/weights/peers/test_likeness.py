"""The same model on two nodes is known without reading it; another one is not taken for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.weights.errors import SourceRefused
from models.weights.peers.likeness import SAMPLE_BYTES, WHOLE_BYTES, Likenesses, likeness
from tests.models.weights.conftest import MiB, model, write


def test_a_copy_is_alike_whatever_its_times_say(tmp_path: Path) -> None:
    here = write(tmp_path / "here", model(3 * MiB))
    shutil.copytree(here, tmp_path / "there")
    os.utime(tmp_path / "there" / "config.json", (1, 1))
    seen = Likenesses()
    assert seen.of(here) == seen.of(tmp_path / "there")


def test_what_does_not_make_the_model_does_not_count(tmp_path: Path) -> None:
    here = write(tmp_path / "here", model())
    before = Likenesses().of(here)
    write(here, {"README.md": b"hello", "train.py": b"1", "SHA256SUMS": b""})
    assert Likenesses().of(here) == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_another_file_is_another_model(tmp_path: Path, name: str) -> None:
    here = write(tmp_path / "here", model())
    seen = Likenesses()
    before = seen.of(here)
    data = (here / name).read_bytes()
    (here / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert seen.of(here) != before


def test_weights_that_were_trained_on_differ_in_many_places_and_so_in_the_sampled_ones(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", model(3 * MiB)), write(tmp_path / "two", model(3 * MiB, fill=2))
    assert Likenesses().of(one) != Likenesses().of(two)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20 * WHOLE_BYTES))
def test_the_samples_are_few_and_reach_both_ends(size_bytes: int) -> None:
    from models.weights.peers.likeness import _samples

    found = _samples(size_bytes)
    assert found[0][0] == 0
    assert max(place + length for place, length in found) == size_bytes
    assert all(place >= 0 and length > 0 for place, length in found)
    assert sum(length for _, length in found) <= max(WHOLE_BYTES, 33 * SAMPLE_BYTES + 128 * 1024)


def test_a_file_that_is_gone_is_no_likeness_at_all(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        likeness(tmp_path, {"nowhere": 3})
    with pytest.raises((OSError, SourceRefused)):
        Likenesses().of(tmp_path / "none")
