"""Anonymous host memory whose pages are there before anybody needs them.

Touching fresh memory, not copying, is what makes a first copy slow (0.3 to 2.6 GB/s measured against 15 for a copy);
huge pages filled by several threads at once take the most of that away.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import torch

from models.runtimes.protocol import EngineError

HUGE_PAGE_BYTES = 2 << 20
CHUNK_BYTES = 64 << 20
MOST_THREADS = 8
_MADV_HUGEPAGE = 14
_MADV_POPULATE_WRITE = 23  # since Linux 5.14


class HostMemory:
    """``size_bytes`` of zeros, rounded up to huge pages. Raises EngineError when the machine does not have them."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = -(-size_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
        try:
            self._mapping = mmap.mmap(-1, self.size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as problem:
            raise _too_little(self.size_bytes) from problem
        self.bytes = torch.frombuffer(self._mapping, dtype=torch.uint8)
        self.address = self.bytes.data_ptr()
        _populate(self.address, self.size_bytes)


def _populate(address: int, size_bytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # unlike mmap.madvise, a call through ctypes lets other threads run

    def advise(begin: int, length_bytes: int, advice: int) -> int:
        done = libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length_bytes), ctypes.c_int(advice))
        return ctypes.get_errno() if done else 0

    advise(address, size_bytes, _MADV_HUGEPAGE)  # a wish: kernels may be built without
    chunks = [(address + at, min(CHUNK_BYTES, size_bytes - at)) for at in range(0, size_bytes, CHUNK_BYTES)]
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="populate") as threads:
        for failed in threads.map(lambda chunk: advise(chunk[0], chunk[1], _MADV_POPULATE_WRITE), chunks):
            if failed == errno.EINVAL:
                break  # an older kernel: the pages come when they are registered or written
            if failed:
                raise _too_little(size_bytes)


def _too_little(size_bytes: int) -> EngineError:
    return EngineError(f"the machine has no {size_bytes / 2**30:.1f} GiB of host memory left to pin", "memory")
