"""The pinned host pool: reserved once, shared out, refusing with a reason, given back."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cuda.pinned import Block, PinnedPool, PoolFull
from tests.models.cuda.fake_cuda import FakeCuda, PlainMemory

KIB = 1 << 10
MIB = 1 << 20


def pool(cuda=None, limit_bytes=0):
    return PinnedPool(cuda or FakeCuda(), limit_bytes, PlainMemory)


def test_one_reservation_serves_many_blocks():
    cuda = FakeCuda()
    pinned = pool(cuda)
    pinned.reserve(MIB)
    blocks = [pinned.take(KIB, "a model") for _ in range(100)]
    assert len(cuda.registered) == 1
    assert all(block.pinned and cuda.is_registered(block.bytes) for block in blocks)
    assert (pinned.reserved_bytes, pinned.used_bytes) == (MIB, 100 * KIB)


def test_reserving_what_is_free_already_costs_nothing():
    pinned = pool()
    pinned.reserve(MIB)
    pinned.reserve(MIB)
    assert pinned.reserved_bytes == MIB
    pinned.take(KIB, "a model")
    pinned.reserve(MIB)
    assert pinned.reserved_bytes == 2 * MIB


def test_blocks_are_as_long_as_asked_and_apart():
    pinned = pool()
    pinned.reserve(MIB)
    first, second = pinned.take(1000, "a"), pinned.take(1000, "b")
    first.bytes.fill_(1)
    second.bytes.fill_(2)
    assert first.bytes.numel() == second.bytes.numel() == 1000
    assert set(first.bytes.tolist()) == {1}


def test_a_block_given_back_is_handed_out_again():
    pinned = pool()
    pinned.reserve(KIB)
    first = pinned.take(KIB, "a")
    pinned.give_back(first)
    assert pinned.take(KIB, "b").bytes.data_ptr() == first.bytes.data_ptr()
    assert pinned.reserved_bytes == KIB


def test_full_is_said_with_what_is_needed_and_what_is_free():
    pinned = pool()
    pinned.reserve(MIB)
    pinned.take(MIB // 2, "the first")
    with pytest.raises(PoolFull) as refused:
        pinned.take(MIB, "the weights")
    assert str(refused.value) == (
        "the pinned host pool has no room for the weights: 0.00 GiB are needed, 0.00 GiB of 0.00 GiB are free in one"
        " piece"
    )
    assert refused.value.fault == "memory"
    assert refused.value.short_bytes == MIB // 2


def test_the_ledgers_limit_holds():
    pinned = pool(limit_bytes=MIB)
    pinned.reserve(MIB)
    pinned.take(KIB, "a")
    with pytest.raises(PoolFull, match=r"may hold 0.00 GiB and 0.00 GiB of them are reserved") as refused:
        pinned.reserve(MIB)
    assert refused.value.short_bytes == MIB
    assert pinned.reserved_bytes == MIB


def test_memory_that_cannot_be_pinned_is_used_all_the_same(caplog):
    pinned = pool(FakeCuda(registers=()))
    pinned.reserve(MIB)
    block = pinned.take(KIB, "a")
    assert not block.pinned
    assert not pinned.pinned
    assert "1 MiB of host memory stay pageable: this GPU takes no read-write memory" in caplog.text


def test_closing_gives_everything_back():
    cuda = FakeCuda()
    pinned = pool(cuda)
    pinned.reserve(MIB)
    pinned.reserve(2 * MIB)
    pinned.close()
    assert not cuda.registered
    assert pinned.reserved_bytes == 0


def test_a_refusal_crosses_processes():
    again = pickle.loads(pickle.dumps(PoolFull("no room", 7)))
    assert (str(again), again.short_bytes, again.fault) == ("no room", 7, "memory")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4 * KIB), st.booleans()), max_size=15))
def test_contents_survive_whatever_comes_and_goes(steps):
    """Each block keeps the byte that was written into it, until it is given back."""
    pinned = pool()
    held: list[tuple[Block, int]] = []
    for mark, (size, leave) in enumerate(steps):
        if leave and held:
            gone, _ = held.pop(len(held) // 2)
            pinned.give_back(gone)
        pinned.reserve(size)
        block = pinned.take(size, "a model")
        block.bytes.fill_(mark % 251)
        held.append((block, mark % 251))
        assert all(block.bytes.eq(mark).all() for block, mark in held)
        assert sum(block.region.size_bytes for block, _ in held) == pinned.used_bytes <= pinned.reserved_bytes
