"""Few, long, aligned copies; and staging that never hands the device a buffer which is being filled again."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cuda.copies import (
    MOST_GAP_BYTES,
    TENSOR_ALIGNMENT_BYTES,
    Extent,
    Run,
    Staging,
    merged,
    plan_runs,
    timed_copy,
)
from models.cuda.pinned import PinnedPool
from models.cuda.regions import ALIGNMENT_BYTES
from tests.models.cuda.fake_cuda import FakeCuda, PlainMemory

BASE = 0x7F0000000000


def extents(*pairs):
    return [Extent(BASE + at, size) for at, size in pairs]


def test_neighbours_in_a_file_are_one_copy():
    assert plan_runs(extents((80, 160), (240, 32), (272, 64))) == (Run(BASE + 80, 256, 0),)


def test_a_tensor_that_would_be_misaligned_begins_another_copy():
    first, second = plan_runs(extents((0, 36), (36, 64)))
    assert first == Run(BASE, 36, 0)
    assert second == Run(BASE + 36, 64, ALIGNMENT_BYTES)


def test_a_long_gap_is_not_copied_along():
    far = 1000 + MOST_GAP_BYTES + 2 * TENSOR_ALIGNMENT_BYTES
    assert len(plan_runs(extents((0, 1000), (far - far % 16, 16)))) == 2
    assert len(plan_runs(extents((0, 1000), (1008, 16)))) == 1


def test_views_of_the_same_bytes_stay_together():
    (run,) = plan_runs(extents((0, 100), (4, 16), (90, 60)))
    assert (run.address, run.size_bytes) == (BASE, 150)
    assert run.offset_of(BASE + 90) == 90


def test_extents_that_share_bytes_are_merged():
    assert merged(extents((0, 10), (20, 5), (5, 10), (24, 1))) == tuple(extents((0, 15), (20, 5)))


places = st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 70_000)), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(places, st.integers(0, 10_000))
def test_every_plan_covers_all_bytes_aligned_and_without_overlap(pairs, offset):
    pieces = merged(extents(*pairs))
    runs = plan_runs(pieces, offset)
    for piece in pieces:
        (run,) = [run for run in runs if run.address <= piece.address and piece.end <= run.end]
        assert run.offset_of(piece.address) % TENSOR_ALIGNMENT_BYTES == 0
        assert run.offset_of(piece.address) >= offset
    for earlier, later in pairwise(runs):
        assert earlier.end <= later.address
        assert earlier.offset_bytes + earlier.size_bytes <= later.offset_bytes
        assert later.offset_bytes % ALIGNMENT_BYTES == 0
    gaps = sum(run.size_bytes for run in runs) - sum(piece.size_bytes for piece in pieces)
    assert gaps <= MOST_GAP_BYTES * len(pieces)


@pytest.mark.parametrize("size", [1, 4096, 4097, 3 * 4096, 10_000])
def test_staged_bytes_arrive_although_copies_are_made_late(size):
    cuda = FakeCuda()
    pool = PinnedPool(cuda, memory=PlainMemory)
    staging = Staging(pool, 4096)
    source = torch.randint(0, 256, (size,), dtype=torch.uint8)
    target, stream = cuda.allocate(size), cuda.stream()
    expected = source.clone()
    staging.copy(stream, target, source)
    source.fill_(0)  # the caller may do as it likes with it by now
    stream.record().wait()
    assert target.equal(expected)
    assert cuda.pageable_copies == 0
    staging.close()
    assert pool.used_bytes == 0


def test_a_second_copy_waits_for_the_buffers_of_the_first():
    cuda = FakeCuda()
    staging = Staging(PinnedPool(cuda, memory=PlainMemory), 4096)
    sources = [torch.full((6000,), number, dtype=torch.uint8) for number in range(5)]
    targets = [cuda.allocate(6000) for _ in sources]
    stream = cuda.stream()
    for target, source in zip(targets, sources, strict=True):
        staging.copy(stream, target, source)
    staging.close()
    assert [int(target.unique()) for target in targets] == [0, 1, 2, 3, 4]


def test_a_timed_copy_is_device_time():
    cuda = FakeCuda(bytes_per_s=2e6)
    memory = PlainMemory(1_000_000)
    cuda.register(memory.address, memory.size_bytes, read_only=False)
    assert timed_copy(cuda, cuda.allocate(1_000_000), memory.bytes) == pytest.approx(0.5)
