"""What an engine holds, by kind, and whether the machine can hold it."""

from __future__ import annotations

import mmap

import pytest
import torch

from models.runtimes.protocol import EngineError
from models.runtimes.vllm import footprint as vllm_footprint
from models.runtimes.vllm import kv_memory
from models.runtimes.vllm.footprint import FRESH_S, HostMemory, HostWatch, available_bytes, check_room, host_memory
from models.runtimes.vllm.layout import LayoutWriter

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    kv_memory.forget()
    HostWatch().forget_peak()  # of the tests before
    yield
    kv_memory.forget()


def anonymous(size_bytes):
    mapping = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.write(b"x" * size_bytes)
    return mapping


def test_what_the_engine_writes_is_private_and_other():
    before = host_memory()
    held = anonymous(64 * MIB)
    after = host_memory()
    assert after.private_bytes - before.private_bytes > 60 * MIB
    assert after.other_bytes - before.other_bytes > 50 * MIB
    held.close()


def test_the_kv_cache_is_private_and_not_other():
    cache = kv_memory.mapped(lambda size: torch.zeros(size, dtype=torch.int8))(64 * MIB)
    before = host_memory()
    cache.fill_(7)
    after = host_memory()
    assert kv_memory.resident_bytes() == pytest.approx(64 * MIB, rel=0.01)
    assert after.private_bytes - before.private_bytes > 60 * MIB
    assert after.other_bytes - before.other_bytes < 8 * MIB


def test_mapped_weights_are_shared(tmp_path):
    layout = LayoutWriter(tmp_path, "k").write({"a": torch.zeros(64 * MIB, dtype=torch.uint8)})
    layout.path.rename(tmp_path / "k.safetensors")
    before = host_memory()
    from models.runtimes.vllm.layout import MappedFile

    file = MappedFile(tmp_path / "k.safetensors")
    file.populate()
    after = host_memory()
    assert after.shared_bytes - before.shared_bytes >= 63 * MIB
    assert after.private_bytes - before.private_bytes < 8 * MIB


def test_what_was_held_for_a_moment_counts_until_it_is_forgotten():
    watch = HostWatch(lambda: 0.0)
    watch.forget_peak()
    before = watch.memory().other_bytes
    anonymous(96 * MIB).close()
    peak = host_memory().other_bytes
    assert peak - before > 80 * MIB
    watch.forget_peak()
    assert host_memory().other_bytes < peak - 60 * MIB


def test_the_kernel_is_not_asked_more_often_than_is_worth_it(monkeypatch):
    asked: list[int] = []

    def ask():
        asked.append(len(asked))
        return HostMemory(len(asked), 0, 0)

    now = [100.0]
    monkeypatch.setattr(vllm_footprint, "host_memory", ask)
    watch = HostWatch(lambda: now[0])
    assert [watch.memory().private_bytes for _ in range(3)] == [1, 1, 1]
    now[0] += FRESH_S * 1.1
    assert watch.memory().private_bytes == 2
    now[0] += FRESH_S * 0.9
    watch.keep()
    now[0] += FRESH_S * 0.9
    assert watch.memory().private_bytes == 2
    watch.forget_peak()
    assert watch.memory().private_bytes == 3
    assert watch.memory("more weights").private_bytes == 4
    assert watch.memory("more weights").private_bytes == 4


def test_weights_that_the_machine_cannot_hold_are_refused():
    check_room(MIB)
    with pytest.raises(EngineError, match=r"the machine has \d+ MiB of memory left") as told:
        check_room(available_bytes() + 64 * MIB)
    assert told.value.fault == "memory"
