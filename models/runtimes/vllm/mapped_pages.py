"""What a process holds of its own, and what it shares through mapped weights files: only the first is its cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_MAPPING = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)\n((?:[A-Z].*\n)+)", re.MULTILINE)
_FIELD = re.compile(rb"^(Rss|Private_Clean|Private_Dirty|Anonymous): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pages:
    """Resident bytes of a process.

    ``private_bytes``: shared with nobody, and gone with the process. ``weights_bytes``: unchanged pages of mapped
    weights files; they belong to the page cache, also where no other process maps them just now.
    """

    private_bytes: int
    weights_bytes: int


def read_pages(pid: int | None = None, suffix: str = ".safetensors") -> Pages:
    """Zeros when the process is gone. ``suffix``: of the names of weights files."""
    try:
        mappings = Path(f"/proc/{pid or 'self'}/smaps").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return Pages(0, 0)
    return parse_pages(mappings, suffix)


def parse_pages(smaps: bytes, suffix: str) -> Pages:
    private = weights = 0
    # A file that was replaced while it is mapped has " (deleted)" after its name.
    endings = (suffix.encode(), f"{suffix} (deleted)".encode())
    for name, body in _MAPPING.findall(smaps):
        held = {field: 1024 * int(kilobytes) for field, kilobytes in _FIELD.findall(body)}
        if name.endswith(endings):
            # Not by whether they are dirty: pages of a file that was just written are, and yet the page cache's.
            weights += held[b"Rss"] - held[b"Anonymous"]
            private += held[b"Anonymous"]
        else:
            private += held[b"Private_Clean"] + held[b"Private_Dirty"]
    return Pages(private, weights)
