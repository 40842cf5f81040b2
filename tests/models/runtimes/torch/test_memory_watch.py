"""An engine that outgrows what was reserved for it is found; one that is only large is not."""

from __future__ import annotations

import asyncio
import mmap

from models.runtimes.protocol import Budget
from models.runtimes.torch.memory_watch import MemoryWatch, anonymous, outgrown, reserved_bytes

MIB = 1 << 20


def test_the_limit_is_the_budget_or_what_it_held_and_a_tolerance():
    assert MemoryWatch(4096 * MIB, 100 * MIB).limit_bytes == 6144 * MIB
    assert MemoryWatch(16 * MIB, 100 * MIB).limit_bytes == 612 * MIB
    assert reserved_bytes(Budget(weights_bytes=3, kv_cache_bytes=99, overhead_bytes=4)) == 7


def test_once_may_be_a_large_batch_twice_is_a_leak():
    watch = MemoryWatch(0, 0)
    over = watch.limit_bytes + 1
    assert [watch.look(over), watch.look(5), watch.look(over)] == [None, None, None]
    said = watch.look(over)
    assert said == (
        "the model's memory has grown to 512 MiB, with 0 MiB reserved for it and 512 MiB let pass:"
        " it leaks, or its budget is too small"
    )


def test_it_looks_closely_only_when_there_is_reason_to():
    anonymous_mib = iter([100, 100, 900, 900, 900, 900])
    private_mib = iter([900, 300, 900, 900])
    looks = []

    def private_bytes():
        looks.append(1)
        return next(private_mib) * MIB

    watching = outgrown(MemoryWatch(0, 0), private_bytes, lambda: next(anonymous_mib) * MIB, every_s=0.001)
    assert asyncio.run(watching).startswith("the model's memory has grown to 900 MiB")
    assert len(looks) == 4


def test_of_this_process():
    before = anonymous()
    with mmap.mmap(-1, 32 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:  # the heap may have as much to spare
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert anonymous() - before > 24 * MIB
    assert anonymous(2**22 + 1) == 0
