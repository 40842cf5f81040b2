"""Weights in the page cache: which mapping shows them, and the same file mapped so that a device can read it."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.cuda.mapped import CannotMap, FileMapping, MappedFile, file_mappings, holding, own_mappings
from tests.models.cuda.fake_cuda import FakeCuda

SMAPS = """\
7f0000000000-7f0000100000 r--s 00002000 fe:01 1234                       /models/some name.safetensors
Size:               1024 kB
Rss:                  64 kB
Anonymous:             0 kB
VmFlags: rd mr me ms
7f0000200000-7f0000300000 rw-p 00000000 fe:01 99                         /models/b.safetensors (deleted)
Anonymous:             8 kB
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Anonymous:          1024 kB
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
Anonymous:            40 kB
"""


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(4096, dtype=torch.float32), "b": torch.ones(100)}, path)
    return path


def span(tensor):
    return tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes


def test_the_kernels_list_is_read():
    shown, changed = file_mappings(SMAPS)
    assert shown == FileMapping(
        0x7F0000000000, 0x7F0000100000, 0x2000, os.makedev(0xFE, 1), 1234, "/models/some name.safetensors", 0
    )
    assert (changed.inode, changed.changed_bytes) == (99, 8192)


def test_what_was_written_to_or_lies_elsewhere_has_no_file():
    mappings = file_mappings(SMAPS)
    assert holding(mappings, 0x7F0000000000, 0x7F0000100000) == mappings[0]
    assert holding(mappings, 0x7F0000000000, 0x7F0000100001) is None
    assert holding(mappings, 0x7F0000200000, 0x7F0000200010) is None
    assert holding(mappings, 0x7F0000400000, 0x7F0000400010) is None


def test_loaded_weights_are_found_in_their_file(weights):
    loaded = load_file(weights)
    mapping = holding(own_mappings(), *span(loaded["a"]))
    assert mapping is not None
    assert mapping.path == str(weights)
    assert mapping.inode == weights.stat().st_ino
    begin = mapping.offset_bytes + loaded["a"].data_ptr() - mapping.start
    file = MappedFile(mapping)
    assert file.bytes[begin : begin + loaded["a"].nbytes].view(torch.float32).equal(loaded["a"])


def test_weights_that_were_changed_in_place_are_not(weights):
    loaded = load_file(weights)
    loaded["a"][0] = 5.0
    assert holding(own_mappings(), *span(loaded["a"])) is None


def test_a_file_that_was_replaced_is_not_mapped(weights):
    loaded = load_file(weights)
    mapping = holding(own_mappings(), *span(loaded["a"]))
    assert mapping is not None
    other = weights.with_name("other")
    save_file({"a": torch.zeros(4096)}, other)
    other.rename(weights)
    with pytest.raises(CannotMap, match=r"^model.safetensors was replaced$"):
        MappedFile(mapping)
    weights.unlink()
    with pytest.raises(CannotMap, match=r"^model.safetensors is gone: No such file or directory$"):
        MappedFile(mapping)


def test_pinning_registers_the_whole_file_for_reading(weights):
    loaded = load_file(weights)
    mapping = holding(own_mappings(), *span(loaded["a"]))
    assert mapping is not None
    file, cuda = MappedFile(mapping), FakeCuda()
    assert file.pin(cuda) == ""
    assert file.pinned
    assert cuda.registered == {file.address: weights.stat().st_size}
    file.unpin(cuda)
    assert not cuda.registered
    assert not file.pinned


def test_a_gpu_that_takes_no_read_only_memory_leaves_it_pageable(weights):
    loaded = load_file(weights)
    mapping = holding(own_mappings(), *span(loaded["a"]))
    assert mapping is not None
    file = MappedFile(mapping)
    assert file.pin(FakeCuda(registers=("read-write",))) == "this GPU takes no read-only memory"
    assert not file.pinned
