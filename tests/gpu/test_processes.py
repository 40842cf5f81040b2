"""What the driver says of processes, against what torch says of itself, and the ledger against both."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from models.cuda.reconcile import Reservation, reconcile
from models.nvml import probe, process_bytes, processes

pytestmark = pytest.mark.gpu

GIB = 1 << 30

HOLDS = """
import sys, torch
torch.empty(1, device="cuda")
torch.cuda.synchronize()
block = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda") if int(sys.argv[1]) else None
print("holds", flush=True)
sys.stdin.readline()
"""


class Holder:
    """Another process with a context and a block of ``size_bytes``."""

    def __init__(self, size_bytes):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(size_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "holds\n"
        time.sleep(0.2)  # the driver's books

    def __enter__(self):
        return self.process.pid

    def __exit__(self, *_):
        self.process.communicate("\n")


def test_the_driver_lists_this_process_under_its_number(gpu):
    torch.empty(1, device="cuda")
    torch.cuda.synchronize()
    assert os.getpid() in [process.pid for process in processes()], "the driver numbers processes otherwise here"
    assert (process_bytes(os.getpid(), gpu.uuid) or 0) > 0


def test_a_process_grows_by_what_it_allocates(gpu):
    block = torch.empty(1, device="cuda")
    torch.cuda.synchronize()
    before = process_bytes(os.getpid(), gpu.uuid)
    more = torch.empty(2 * GIB, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    after = process_bytes(os.getpid(), gpu.uuid)
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(2 * GIB, rel=0.02)
    del block, more
    torch.cuda.empty_cache()


def test_used_memory_is_what_processes_and_the_driver_hold(gpu):
    with Holder(GIB):
        now = next(one for one in probe() if one.uuid == gpu.uuid)
        listed = sum(process.used_bytes or 0 for process in processes() if process.uuid == gpu.uuid)
    print(f"\nused {now.used_bytes >> 20} MiB: driver {now.reserved_bytes >> 20}, processes {listed >> 20}")
    assert now.used_bytes - now.reserved_bytes - listed == pytest.approx(0, abs=0.02 * now.used_bytes + (64 << 20))


def test_the_ledger_is_within_two_percent_of_the_driver(gpu):
    """Reserved is what was measured once (a context alone) and what is known (the weights)."""
    with Holder(0) as pid:
        context_bytes = process_bytes(pid, gpu.uuid)
    assert context_bytes is not None
    sizes = (GIB, 4 * GIB)
    with Holder(sizes[0]) as first, Holder(sizes[1]) as second:
        reserved = [
            Reservation(f"r{number}", gpu.uuid, pid, size + context_bytes)
            for number, (pid, size) in enumerate(zip((first, second), sizes, strict=True))
        ]
        books = reconcile([one for one in probe() if one.uuid == gpu.uuid], processes(), reserved)[gpu.uuid]
    print(f"\n{books}")
    assert books.overruns == ()
    assert books.silent == ()
    assert books.ours_bytes == pytest.approx(books.ledger_bytes, rel=0.02)


def test_an_ended_process_leaves_nothing(gpu):
    before = next(one for one in probe() if one.uuid == gpu.uuid).used_bytes
    with Holder(2 * GIB) as pid:
        assert (process_bytes(pid) or 0) > 2 * GIB
    time.sleep(0.5)
    assert process_bytes(pid) == 0
    assert next(one for one in probe() if one.uuid == gpu.uuid).used_bytes <= before + (32 << 20)
