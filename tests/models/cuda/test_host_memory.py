"""Host memory whose pages are there at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.cuda.host_memory import CHUNK_BYTES, HUGE_PAGE_BYTES, HostMemory
from models.runtimes.protocol import EngineError


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_every_page_is_there_before_it_is_touched():
    before = resident_bytes()
    memory = HostMemory(CHUNK_BYTES + 5)
    assert memory.size_bytes == CHUNK_BYTES + HUGE_PAGE_BYTES
    assert resident_bytes() - before >= memory.size_bytes * 0.9
    assert memory.bytes.numel() == memory.size_bytes
    assert memory.bytes.data_ptr() == memory.address
    assert not memory.bytes.any()
    memory.bytes[-1] = 7
    assert memory.bytes[-1] == 7


def test_dropping_it_gives_the_pages_back():
    memory = HostMemory(CHUNK_BYTES)
    held = resident_bytes()
    del memory
    assert held - resident_bytes() >= CHUNK_BYTES * 0.9


def test_more_than_the_machine_can_address_is_refused():
    with pytest.raises(EngineError, match=r"the machine has no 1048576.0 GiB of host memory left to pin") as refused:
        HostMemory(1 << 50)
    assert refused.value.fault == "memory"
