"""The kernel's figures against memory that we know we have."""

from __future__ import annotations

import mmap
import os
import subprocess

from models.runtimes.proc import is_ending, private_bytes, rss_bytes, trim_heap

MIB = 1 << 20


def test_touched_pages_are_counted_and_returned_ones_are_not():
    mapping = mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    before = private_bytes()
    for page in range(0, 64 * MIB, mmap.PAGESIZE):
        mapping[page] = 1
    assert private_bytes() - before > 60 * MIB
    mapping.madvise(mmap.MADV_DONTNEED)
    assert private_bytes() - before < 8 * MIB


def test_resident_memory_includes_what_is_shared():
    assert rss_bytes() >= private_bytes(os.getpid()) > MIB


def test_a_process_that_is_gone_holds_nothing():
    assert private_bytes(2**22 + 1) == rss_bytes(2**22 + 1) == 0


def test_trimming_the_heap_does_no_harm():
    kept = bytearray(MIB)
    trim_heap()
    assert not any(kept)


def test_a_process_is_ending_from_its_last_instruction_until_it_is_gone():
    assert not is_ending(os.getpid())
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_ending(child.pid)
    child.wait()
    assert is_ending(child.pid)
