"""Safetensors files are judged by their headers: a corpus of broken ones, the real library as the second opinion."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from models.weights.errors import Damaged
from models.weights.headers import check_weights
from tests.models.catalog.folders import TENSORS, header_of, safetensors_bytes, weights

WHOLE = weights()


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def one(data_bytes: int = 8, **changes: Any) -> bytes:
    """A file of one tensor whose entry is changed."""
    return safetensors_bytes({"t": entry(**changes)}, data_bytes)


def two(first: tuple[int, int], second: tuple[int, int], data_bytes: int) -> bytes:
    sizes = [(stop - begin) // 4 for begin, stop in (first, second)]
    header = {"a": entry(shape=[sizes[0]], offsets=first), "b": entry(shape=[sizes[1]], offsets=second)}
    return safetensors_bytes(header, data_bytes)


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is truncated: it holds only 0 bytes"),
    "seven bytes": (b"\0" * 7, "is truncated: it holds only 7 bytes"),
    "only a length": (WHOLE[:8], "is truncated within its header"),
    "half a header": (WHOLE[:60], "is truncated within its header"),
    "no data": (WHOLE[: -sum(size for _, _, size in TENSORS.values())], "544 of 544 bytes of data are missing"),
    "last byte missing": (WHOLE[:-1], "is truncated: 1 of 544 bytes of data are missing"),
    "one byte more": (WHOLE + b"\0", "is corrupt: 1 bytes follow the data"),
    "two files in one": (WHOLE + WHOLE, "bytes follow the data"),
    "length of the moon": (b"\xff" * 8 + WHOLE[8:], "its header claims 18446744073709551615 bytes"),
    "length too long": ((10**6).to_bytes(8, "little") + WHOLE[8:], "is truncated within its header"),
    "length too short": ((20).to_bytes(8, "little") + WHOLE[8:], "its header is not valid JSON"),
    "length zero": (b"\0" * 8, "its header is not valid JSON"),
    "zeros": (b"\0" * 1000, "its header is not valid JSON"),
    "a list": (safetensors_bytes(b"[]", 0), "its header is not valid JSON"),
    "metadata is a number": (safetensors_bytes({"__metadata__": 3}, 0), "its __metadata__ is not text by name"),
    "metadata holds numbers": (safetensors_bytes({"__metadata__": {"a": 3}}, 0), "its __metadata__ is not text"),
    "not UTF-8": (safetensors_bytes(b'{"\xff": 1}', 0), "its header is not valid JSON"),
    "deeply nested": (safetensors_bytes(b'{"a":' * 100_000, 0), "its header is not valid JSON"),
    "a number of ten thousand digits": (safetensors_bytes(b'{"a":' + b"9" * 10_000 + b"}", 0), "is not valid JSON"),
    "entry is a number": (safetensors_bytes({"t": 3}, 0), "the entry of tensor t makes no sense"),
    "entry is empty": (safetensors_bytes({"t": {}}, 0), "the entry of tensor t makes no sense"),
    "unknown type": (one(dtype="F33"), "tensor t has the unknown type 'F33'"),
    "type is a number": (one(dtype=3), "makes no sense"),
    "shape is text": (one(shape="2"), "makes no sense"),
    "shape is negative": (one(shape=[-1, -2]), "makes no sense"),
    "shape is broken": (one(shape=[2.0]), "makes no sense"),
    "shape is true": (one(data_bytes=4, shape=[True], offsets=[0, 4]), "makes no sense"),
    "shape too large": (one(shape=[3]), "makes no sense"),
    "shape beyond measure": (one(shape=[2**62, 2**62]), "makes no sense"),
    "offsets backwards": (one(offsets=[8, 0]), "makes no sense"),
    "offsets negative": (one(offsets=[-8, 0]), "makes no sense"),
    "three offsets": (one(offsets=[0, 4, 8]), "makes no sense"),
    "offsets are text": (one(offsets=["0", "8"]), "makes no sense"),
    "overlap": (two((0, 8), (4, 12), 12), "tensor b overlaps another"),
    "same place": (two((0, 8), (0, 8), 8), "tensor b overlaps another"),
    "hole": (two((0, 8), (12, 20), 20), "tensor b leaves a hole before it"),
    "hole at the start": (one(data_bytes=16, offsets=[8, 16]), "tensor t leaves a hole before it"),
    "html": (b"<!DOCTYPE html><html>not found</html>", "its header claims"),
    "a pointer to large storage": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "header claims",
    ),
    "a zip": (b"PK\x03\x04" + b"\0" * 100, "its header|truncated within its header"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_told_in_one_sentence(file, kind):
    content, said = BROKEN[kind]
    file.write_bytes(content)
    with pytest.raises(Damaged, match=said) as caught:
        check_weights(file)
    assert str(caught.value).startswith("the weights file model.safetensors")
    assert "\n" not in str(caught.value)
    assert str(file.parent) not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(set(BROKEN) - {"shape is true"}))
def test_the_library_refuses_the_same_files(file, kind):
    file.write_bytes(BROKEN[kind][0])
    with pytest.raises((safetensors.SafetensorError, OSError)):
        opened(file)


def test_a_whole_file_is_measured(file):
    file.write_bytes(WHOLE)
    found = check_weights(file)
    assert found.size_bytes == len(WHOLE)
    assert found.tensors == set(TENSORS)


@pytest.mark.parametrize(
    "content",
    [
        safetensors_bytes({}, 0),
        safetensors_bytes({"__metadata__": {"format": "pt"}}, 0),
        safetensors_bytes({"__metadata__": None}, 0),
        safetensors_bytes(b"{}   ", 0),
        safetensors_bytes(b" {}", 0),
        one(data_bytes=0, shape=[0, 5], offsets=[0, 0]),
        one(data_bytes=4, shape=[], offsets=[0, 4]),
        one(data_bytes=1, dtype="F4", shape=[2], offsets=[0, 1]),
        safetensors_bytes({"b": entry(offsets=[8, 16]), "a": entry(offsets=[0, 8])}, 16),
    ],
)
def test_unusual_but_whole_files(file, content):
    file.write_bytes(content)
    check_weights(file)
    opened(file)


def test_what_the_library_writes_is_whole(file):
    types = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]
    arrays = {name: numpy.ones((3, 2), dtype=name) for name in [*types, "bool"]}
    arrays["scalar"] = numpy.array(1, dtype="float32")
    arrays["nothing"] = numpy.ones((0, 4), dtype="float32")
    save_file(arrays, file, metadata={"format": "np"})
    assert check_weights(file).tensors == set(arrays)


class TestThingsThatAreNoFiles:
    def test_missing(self, file):
        with pytest.raises(Damaged, match=r"the weights file model.safetensors is missing"):
            check_weights(file)

    def test_a_folder(self, file):
        file.mkdir()
        with pytest.raises(Damaged, match=r"cannot be read \(Is a directory\)"):
            check_weights(file)

    def test_a_named_pipe_does_not_hang_the_start(self, file):
        os.mkfifo(file)
        with pytest.raises(Damaged, match="is not a regular file"):
            check_weights(file)

    def test_a_socket(self, file, monkeypatch):
        monkeypatch.chdir(file.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(file.name)
            with pytest.raises(Damaged, match="cannot be read"):
                check_weights(file)

    def test_a_link_that_leads_nowhere(self, file):
        file.symlink_to("blobs/gone")
        with pytest.raises(Damaged, match="is missing"):
            check_weights(file)

    def test_a_link_is_followed(self, file):
        blob = file.with_name("blob")
        blob.write_bytes(WHOLE)
        file.symlink_to(blob)
        assert check_weights(file).size_bytes == len(WHOLE)

    def test_no_descriptor_is_left_open(self, file):
        before = len(os.listdir("/proc/self/fd"))
        for content, _ in BROKEN.values():
            file.write_bytes(content)
            with pytest.raises(Damaged):
                check_weights(file)
        assert len(os.listdir("/proc/self/fd")) == before


def opened(file: Path) -> None:
    """What an engine does: map the file and look at every tensor."""
    with safetensors.safe_open(file, framework="numpy") as content:
        for name in content.keys():  # noqa: SIM118 - not a mapping
            content.get_slice(name).get_shape()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_changed_byte_slips_past_that_would_stop_the_library(tmp_path, changes):
    content = bytearray(WHOLE)
    for position, value in changes:
        content[position] = value
    _compare(tmp_path / "changed.safetensors", bytes(content))


pieces: st.SearchStrategy[Any] = st.sampled_from(
    ["F32", "BF16", [], [2], [2, 2], [0], [0, 8], [0, 16], [8, 16], [16, 16], 0, 8, None, True, {}, "x"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__"]),
        st.fixed_dictionaries({"dtype": pieces, "shape": pieces, "data_offsets": pieces})
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "more"]), pieces),
        max_size=2,
    ),
    st.sampled_from([0, 8, 16]),
)
def test_no_odd_header_slips_past_that_would_stop_the_library(tmp_path, header, data_bytes):
    _compare(tmp_path / "odd.safetensors", safetensors_bytes(header, data_bytes))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_every_truncation_is_noticed(tmp_path, length):
    file = tmp_path / "short.safetensors"
    file.write_bytes(WHOLE[:length])
    with pytest.raises(Damaged, match=r"truncated|not valid JSON"):
        check_weights(file)


def _compare(file: Path, content: bytes) -> None:
    """Whatever passes here must load there."""
    file.write_bytes(content)
    try:
        check_weights(file)
    except Damaged:
        return
    opened(file)


def test_the_builder_of_these_tests_writes_what_the_library_reads(file):
    file.write_bytes(WHOLE)
    opened(file)
    assert json.dumps(header_of(TENSORS)).encode() in WHOLE
