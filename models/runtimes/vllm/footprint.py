"""What an engine holds, by kind, as the kernel and the device's driver say."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.runtimes.protocol import EngineError
from models.runtimes.vllm import kv_memory
from models.runtimes.vllm.mapped_pages import own_pages

ROOM_BYTES = 256 << 20  # for the engine itself
FRESH_S = 0.5  # the kernel walks through 600 MB of page tables to answer: 20 to 30 ms

_STATUS = re.compile(r"^(VmHWM|VmRSS):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes of this process. ``other_bytes``: private and no KV cache, at their most since ``forget_peak``."""

    private_bytes: int
    shared_bytes: int
    other_bytes: int


class HostWatch:
    """Asks the kernel for this process's memory, not more often than is worth it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: HostMemory | None = None
        self._asked_at = 0.0
        self._held: object = None
        own_pages()  # now, while the launcher lives

    def memory(self, held: object = None) -> HostMemory:
        """``held``: what the asker knows to be held; when that is something else than before, the kernel is asked."""
        if self._last is None or held != self._held or self._clock() - self._asked_at > FRESH_S:
            self._last, self._held = host_memory(), held
            self._asked_at = self._clock()
        return self._last

    def keep(self) -> None:
        """Nothing has changed that is worth asking again just now."""
        self._asked_at = self._clock()

    def forget_peak(self) -> None:
        """Let the peak begin now: what loading took for a moment is not what serving takes."""
        self._last = None
        with contextlib.suppress(OSError):  # not everywhere permitted; the peak is then that of the whole life
            Path("/proc/self/clear_refs").write_text("5")


def host_memory() -> HostMemory:
    pages = own_pages().read()
    found = {name: 1024 * int(kilobytes) for name, kilobytes in _STATUS.findall(Path("/proc/self/status").read_text())}
    above_bytes = max(0, found.get("VmHWM", 0) - found.get("VmRSS", 0))
    other_bytes = max(0, pages.private_bytes - kv_memory.resident_bytes()) + above_bytes
    return HostMemory(pages.private_bytes, pages.weights_bytes, other_bytes)


def available_bytes() -> int:
    """Host memory that can be had without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def check_room(weights_bytes: int) -> None:
    """Whether the host can hold weights while they are loaded. Raises EngineError with the fault "memory"."""
    available = available_bytes()
    if 0 < available < weights_bytes + ROOM_BYTES:
        raise EngineError(
            f"the model's weights take {weights_bytes >> 20} MiB while they are loaded, the machine has"
            f" {available >> 20} MiB of memory left",
            "memory",
        )
