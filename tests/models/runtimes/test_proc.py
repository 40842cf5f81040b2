"""The kernel's figures against memory that we know we have."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess

from models.runtimes.proc import catches, cpu_s, is_ending, private_bytes, rss_bytes, start_ticks, stat, trim_heap

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


def test_a_process_is_known_by_its_pid_and_its_beginning():
    me = stat(os.getpid())
    assert me is not None
    assert (me.state, me.parent, me.session) == ("R", os.getppid(), os.getsid(0))
    assert start_ticks(os.getpid()) == me.start_ticks > 0
    assert stat(2**22 + 1) is None
    assert start_ticks(2**22 + 1) is None


def test_processor_time_is_used_by_computing():
    before_s = cpu_s()
    while cpu_s() - before_s < 0.02:
        sum(range(10_000))
    assert cpu_s(2**22 + 1) == 0


def test_handlers_are_told_from_defaults():
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        assert catches(os.getpid(), signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        assert not catches(os.getpid(), signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert not catches(2**22 + 1, signal.SIGUSR2)


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
