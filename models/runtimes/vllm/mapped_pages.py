"""What a process holds of its own, and what it shares through mapped weights files: only the first is its cost."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

_MAPPING = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)\n((?:[A-Z].*\n)+)", re.MULTILINE)
_FIELD = re.compile(rb"^(Rss|Private_Clean|Private_Dirty|Anonymous): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pages:
    """Resident bytes of a process.

    ``private_bytes``: shared with nobody, and gone with the process. ``weights_bytes``: unchanged pages of mapped
    weights files; they belong to the page cache, also where no other process maps them just now. ``shared_bytes``: of
    all other pages, those that another process holds as well.
    """

    private_bytes: int
    weights_bytes: int
    shared_bytes: int = 0


class OwnPages:
    """Of this process, whether or not the launcher lives that it was forked from.

    What came with the fork and was never written is shared with the launcher. When that ends (killed, or replaced by
    its successor), the same pages turn private to the last engine that has them, which holds no more than before.
    """

    def __init__(self, look: Callable[[], Pages] | None = None, parent: Callable[[], int] = os.getppid) -> None:
        """Is to be made while the launcher lives."""
        self._look = look or read_pages
        self._parent = parent
        self._launcher = parent()
        self._shared_bytes = 0  # when it was last seen to live

    def read(self) -> Pages:
        before, pages = self._parent(), self._look()
        if before == self._parent() == self._launcher:
            self._shared_bytes = pages.shared_bytes
            return pages
        left_alone_bytes = max(0, self._shared_bytes - pages.shared_bytes)
        return replace(pages, private_bytes=max(0, pages.private_bytes - left_alone_bytes))


def own_pages() -> OwnPages:
    """The one of this process, however many engines live in it; the first that asks should do so while it starts."""
    return _of_process(os.getpid())


@functools.cache
def _of_process(_pid: int) -> OwnPages:
    return OwnPages()


def read_pages(pid: int | None = None, suffix: str = ".safetensors") -> Pages:
    """Zeros when the process is gone. ``suffix``: of the names of weights files."""
    try:
        mappings = Path(f"/proc/{pid or 'self'}/smaps").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return Pages(0, 0)
    return parse_pages(mappings, suffix)


def parse_pages(smaps: bytes, suffix: str) -> Pages:
    private = weights = shared = 0
    # A file that was replaced while it is mapped has " (deleted)" after its name.
    endings = (suffix.encode(), f"{suffix} (deleted)".encode())
    for name, body in _MAPPING.findall(smaps):
        held = {field: 1024 * int(kilobytes) for field, kilobytes in _FIELD.findall(body)}
        if name.endswith(endings):
            # Not by whether they are dirty: pages of a file that was just written are, and yet the page cache's.
            weights += held[b"Rss"] - held[b"Anonymous"]
            private += held[b"Anonymous"]
        else:
            mine = held[b"Private_Clean"] + held[b"Private_Dirty"]
            private += mine
            shared += held[b"Rss"] - mine
    return Pages(private, weights, shared)
