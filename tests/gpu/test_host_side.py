"""Host memory that the bus reads: what can be registered here, what arrives, and how fast."""

from __future__ import annotations

import gc
import os

import pytest
import torch

from models.cuda.bandwidth import measure_all, measured_link
from models.cuda.copies import Staging
from models.cuda.fingerprint import fingerprint
from models.cuda.host_memory import HostMemory
from models.cuda.mapped import FileMapping, MappedFile

pytestmark = [pytest.mark.gpu, pytest.mark.anyio]

MIB = 1 << 20
GIB = 1 << 30


def random_file(folder, size_bytes):
    path = folder / "weights"
    path.write_bytes(os.urandom(size_bytes))
    return path


def mapped(path):
    status = path.stat()
    return MappedFile(FileMapping(0, status.st_size, 0, status.st_dev, status.st_ino, str(path), 0))


def test_the_pool_is_pinned_where_it_lies(calls, pool):
    pool.reserve(256 * MIB)
    block = pool.take(100 * MIB, "a test")
    assert block.pinned
    assert block.bytes.is_pinned()


def test_bytes_arrive_from_the_pool_and_come_back(calls, pool):
    pool.reserve(256 * MIB)
    there, back = pool.take(64 * MIB, "a"), pool.take(64 * MIB, "b")
    there.bytes.copy_(torch.randint(0, 256, (64 * MIB,), dtype=torch.uint8))
    target, stream = calls.allocate(64 * MIB), calls.stream()
    stream.copy(target, there.bytes)
    stream.copy(back.bytes, target)
    stream.record().wait()
    assert back.bytes.equal(there.bytes)


def test_a_registered_file_arrives_without_a_copy_on_the_host(calls, tmp_path):
    file = mapped(random_file(tmp_path, 64 * MIB))
    why = file.pin(calls)
    print(f"\nregistered file: {why or 'yes'}")
    target, stream = calls.allocate(64 * MIB), calls.stream()
    stream.copy(target, file.bytes)  # right in any case: pageable where it could not be registered
    stream.record().wait()
    assert target.cpu().equal(file.bytes)
    file.unpin(calls)


def test_a_refused_registration_leaves_no_error_behind(calls):
    """The runtime library would report it at the next kernel launch."""
    from models.cuda.calls import CannotRegister

    with pytest.raises(CannotRegister):
        calls.register(0x1000, 4096, read_only=False)
    assert int(torch.ones(8, device="cuda").sum()) == 8


def test_staged_bytes_arrive(calls, pool):
    memory = HostMemory(200 * MIB)
    memory.bytes.copy_(torch.randint(0, 256, (memory.size_bytes,), dtype=torch.uint8))
    target, stream, staging = calls.allocate(memory.size_bytes), calls.stream(), Staging(pool)
    staging.copy(stream, target, memory.bytes)
    stream.record().wait()
    staging.close()
    assert target.cpu().equal(memory.bytes)


@pytest.mark.parametrize("size", [1, 15, 4096, 64 * MIB + 13])
def test_fingerprints_are_the_same_on_both_sides(calls, size):
    host = torch.randint(0, 256, (size,), dtype=torch.uint8)
    assert int(fingerprint(host.cuda())) == int(fingerprint(host))


def test_memory_mapped_by_others_is_seen_as_bytes(calls):
    block = torch.arange(256, dtype=torch.uint8, device="cuda")
    seen = calls.view(block.data_ptr(), 256)
    assert seen.data_ptr() == block.data_ptr()
    assert seen.equal(block)


def test_given_back_memory_leaves_this_process(calls):
    before = calls.free_bytes()
    block = calls.allocate(2 * GIB)
    assert before - calls.free_bytes() >= 2 * GIB * 0.98
    del block
    gc.collect()
    calls.trim()
    assert abs(calls.free_bytes() - before) < 64 * MIB


def test_bandwidth_of_every_kind(calls, tmp_path):
    """Reported, not judged; that pinned memory is the fastest is what all of this rests on, with room for noise."""
    found = {one.kind: one for one in measure_all(calls, tmp_path, GIB, passes=5)}
    for kind, one in found.items():
        print(f"\n{kind}: {one.bytes_per_s / 1e9:.1f} GB/s {one.why}", end="")
    assert found["pinned"].bytes_per_s > 0


async def test_a_node_measures_in_a_process_of_its_own(gpu):
    assert await measured_link(gpu.uuid, 256 * MIB) > 1e9
