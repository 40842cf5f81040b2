"""Mapped weights are the page cache's, what a process has changed or made is its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

from models.runtimes.vllm.mapped_pages import OwnPages, Pages, own_pages, parse_pages, read_pages

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
    assert parse_pages(smaps, ".safetensors") == Pages(49 * 1024, 110 * 1024, shared_bytes=12 * 1024)


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


def test_what_came_with_the_fork_is_no_cost_when_the_launcher_has_ended():
    """The very same pages: shared before, private afterwards."""
    code = """
import json, os
from models.runtimes.vllm.mapped_pages import OwnPages, read_pages

said, told = os.pipe()
looked, look = os.pipe()
if os.fork() == 0:  # the launcher
    held = bytearray(b"x") * (64 << 20)
    launcher = os.getpid()
    if os.fork() == 0:  # its engine
        own = OwnPages()
        looks = [(own.read().private_bytes, read_pages().private_bytes)]
        os.write(look, b"x")
        while os.getppid() == launcher:
            pass
        looks.append((own.read().private_bytes, read_pages().private_bytes))
        held[: 16 << 20] = b"y" * (16 << 20)
        grown = bytearray(b"z") * (32 << 20)
        looks.append((own.read().private_bytes, read_pages().private_bytes))
        os.write(told, json.dumps(looks).encode())
        os._exit(0)
    os.read(looked, 1)
    os._exit(0)
os.close(told)
os.wait()
print(os.read(said, 4096).decode())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    (own, raw), (own_alone, raw_alone), (own_grown, raw_grown) = json.loads(done.stdout)
    assert abs(own - raw) < 4 * MIB, "while the launcher lives, private is private"
    assert raw_alone - raw >= 60 * MIB
    assert abs(own_alone - own) < 4 * MIB
    assert 30 * MIB <= own_grown - own_alone < 36 * MIB, "what it takes from then on is its own"
    assert raw_grown > raw_alone


def test_of_a_launcher_that_ends_and_one_that_takes_its_place():
    """Libraries are shared with the next launcher; what only the first one had is left alone."""
    parents, looks = [10] * 5 + [1] * 4, [Pages(50, 0, 90), Pages(60, 0, 80), Pages(140, 0, 0), Pages(100, 0, 40)]
    own = OwnPages(lambda: looks.pop(0), parent=lambda: parents.pop(0) if len(parents) > 1 else 1)
    assert [own.read().private_bytes for _ in range(4)] == [50, 60, 60, 60]


def test_one_for_all_engines_of_a_process():
    assert own_pages() is own_pages()
