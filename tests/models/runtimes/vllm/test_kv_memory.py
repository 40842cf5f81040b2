"""A KV cache whose pages are the kernel's until they are used, and again when they are released."""

from __future__ import annotations

import pytest
import torch

from models.runtimes.proc import private_bytes
from models.runtimes.vllm import kv_memory

MIB = 1 << 20
SIZE = 64 * MIB


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    kv_memory.forget()
    yield
    kv_memory.forget()


def allocate(size, device=None):
    """As vLLM's allocate_kv_cache does it."""
    return torch.zeros(size, dtype=torch.int8, device=device)


def test_the_cache_is_a_mapping_that_costs_nothing_until_it_is_written():
    before = private_bytes()
    cache = kv_memory.mapped(allocate)(SIZE, torch.device("cpu"))
    assert kv_memory.cache_bytes() == SIZE
    assert cache.shape == (SIZE,)
    assert private_bytes() - before < 8 * MIB
    cache.fill_(7)
    assert private_bytes() - before > 60 * MIB


def test_released_pages_go_back_to_the_kernel_and_read_as_zeros():
    cache = kv_memory.mapped(allocate)(SIZE)
    view = cache.view(torch.bfloat16).view(2, -1)
    cache.fill_(7)
    held = private_bytes()
    kv_memory.release()
    assert held - private_bytes() > 60 * MIB
    assert not view.any()
    view[1, 5] = 3
    assert view.sum() == 3


def test_only_a_flat_byte_buffer_on_the_cpu_is_mapped():
    def several():
        return (
            torch.zeros(8, dtype=torch.float32),
            torch.zeros(2, 3, dtype=torch.int8),
            torch.zeros((4,), dtype=torch.int8),
            torch.zeros(0, dtype=torch.int8),
            torch.zeros(8, dtype=torch.int8, device="meta"),
            torch.ones(8, dtype=torch.int8),
        )

    shapes = [tuple(tensor.shape) for tensor in kv_memory.mapped(several)()]
    assert shapes == [(8,), (2, 3), (4,), (0,), (8,), (8,)]
    assert kv_memory.cache_bytes() == 0


def test_outside_of_the_allocation_zeros_are_torchs_own():
    kv_memory.mapped(allocate)(MIB)
    allocate(MIB)
    assert kv_memory.cache_bytes() == MIB


def test_what_is_forgotten_is_not_released():
    cache = kv_memory.mapped(allocate)(MIB)
    cache.fill_(7)
    kv_memory.forget()
    kv_memory.release()
    assert cache.all()
