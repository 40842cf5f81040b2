"""A CPU engine's KV cache as one mapping of its own: pages cost nothing until used, and can be given back.

vLLM takes the cache from the heap and zeroes it (1.5 s for 1 GiB); anonymous memory from the kernel is zero already.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_mappings: list[mmap.mmap] = []  # of this process, which holds one engine


class _MappedZeros(TorchFunctionMode):
    """While active, ``torch.zeros`` of a flat byte buffer on the CPU is a fresh private mapping."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if (
            func is torch.zeros
            and len(args) == 1
            and isinstance(args[0], int)
            and args[0] > 0
            and named.get("dtype") is torch.int8
            and torch.device(named.get("device") or "cpu").type == "cpu"
        ):
            mapping = mmap.mmap(-1, args[0], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            _mappings.append(mapping)
            return torch.frombuffer(mapping, dtype=torch.int8)
        return func(*args, **named)


def mapped(allocate: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap vLLM's ``allocate_kv_cache`` so that a cache on the CPU is a mapping known to ``release``."""

    def allocate_mapped(*args: Any, **kwargs: Any) -> Any:
        with _MappedZeros():
            return allocate(*args, **kwargs)

    return allocate_mapped


def cache_bytes() -> int:
    return sum(len(mapping) for mapping in _mappings)


def resident_bytes() -> int:
    """How much of it is in memory: what was written since it was made or released."""
    return sum(_resident_pages(mapping) for mapping in _mappings) * mmap.PAGESIZE


def _resident_pages(mapping: mmap.mmap) -> int:
    buffer = torch.frombuffer(mapping, dtype=torch.int8)
    pages = torch.empty(-(-len(mapping) // mmap.PAGESIZE), dtype=torch.uint8)
    address, length = ctypes.c_void_p(buffer.data_ptr()), ctypes.c_size_t(len(mapping))
    if ctypes.CDLL(None).mincore(address, length, ctypes.c_void_p(pages.data_ptr())):
        return 0
    return int((pages.numpy() & 1).sum())


def release() -> None:
    """Give every page back to the kernel; the memory stays mapped and reads as zeros from now on."""
    for mapping in _mappings:
        mapping.madvise(mmap.MADV_DONTNEED)


def forget() -> None:
    """In the launcher, after its warm-up: a child's engine has a cache of its own."""
    _mappings.clear()
