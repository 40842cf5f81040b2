"""Mapped weights are the page cache's, what a process has changed or made is its own."""

from __future__ import annotations

import os

import torch
from safetensors.torch import load_file, save_file

from models.runtimes.vllm.mapped_pages import Pages, parse_pages, read_pages

MIB = 1 << 20


def mapping(name, rss, clean=0, dirty=0, anonymous=0):
    return (
        f"7fee0e000000-7fee54c16000 rw-p 00000000 fe:00 16066207                   {name}\n"
        f"Size:            1159256 kB\nRss:             {rss} kB\nPrivate_Clean:   {clean} kB\n"
        f"Private_Dirty:         {dirty} kB\nAnonymous:             {anonymous} kB\nVmFlags: rd wr mr mw me ac \n"
    ).encode()


def test_only_weights_files_are_the_page_caches():
    smaps = (
        mapping("/models/a b/model.safetensors", 100, clean=100)
        + mapping("/models/x.safetensors (deleted)", 10, clean=2)
        + mapping("/usr/lib/_safetensors_rust.abi3.so", 7, clean=5)
        + mapping("[heap]", 50, dirty=40, anonymous=50)
        + mapping("", 4, dirty=4, anonymous=4)
    )
    assert parse_pages(smaps, ".safetensors") == Pages(private_bytes=49 * 1024, weights_bytes=110 * 1024)


def test_a_file_that_was_just_written_is_dirty_and_not_the_process_own():
    just_written = mapping("/m/model.safetensors", 100, dirty=100)
    assert parse_pages(just_written, ".safetensors") == Pages(0, 100 * 1024)


def test_pages_of_the_mapping_that_were_changed_are_its_own():
    changed = mapping("/m/model.safetensors", 100, clean=70, dirty=30, anonymous=30)
    assert parse_pages(changed, ".safetensors") == Pages(30 * 1024, 70 * 1024)


def test_of_this_process(tmp_path):
    save_file({"a": torch.ones(16 * MIB, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    before = read_pages()
    tensor = load_file(tmp_path / "model.safetensors")["a"]
    assert int(tensor.sum()) == 16 * MIB
    after = read_pages(os.getpid())
    assert after.weights_bytes - before.weights_bytes >= 16 * MIB
    assert after.private_bytes - before.private_bytes < 8 * MIB
    tensor[: 8 * MIB] = 2
    changed = read_pages()
    assert changed.private_bytes - after.private_bytes >= 7 * MIB
    assert after.weights_bytes - changed.weights_bytes >= 7 * MIB


def test_of_a_process_that_is_gone():
    assert read_pages(2**22 + 1) == Pages(0, 0)
