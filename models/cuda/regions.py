"""Which parts of one piece of memory are taken. Pure arithmetic on offsets."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

ALIGNMENT_BYTES = 512  # of CUDA's own allocations; kernels that load vectors count on it


class NoRoom(Exception):
    """No free stretch is long enough. ``free_bytes`` in all, ``largest_bytes`` in one piece."""

    def __init__(self, size_bytes: int, free_bytes: int, largest_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes do not fit: {free_bytes} are free, {largest_bytes} of them in one piece")
        self.size_bytes = size_bytes
        self.free_bytes = free_bytes
        self.largest_bytes = largest_bytes


@dataclass(frozen=True, slots=True, order=True)
class Region:
    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.size_bytes


class Regions:
    """Hands out regions of ``size_bytes``: the smallest free stretch that fits, its neighbours merged on return.

    Every region begins at a multiple of ``alignment_bytes`` and is as long as one, so nothing is lost between two.
    """

    def __init__(self, size_bytes: int, alignment_bytes: int = ALIGNMENT_BYTES) -> None:
        """Raises ValueError for a size or an alignment that is not positive."""
        if size_bytes <= 0 or alignment_bytes <= 0:
            raise ValueError("size_bytes and alignment_bytes must be above 0")
        self.size_bytes = size_bytes - size_bytes % alignment_bytes
        self._alignment_bytes = alignment_bytes
        self._free = [Region(0, self.size_bytes)] if self.size_bytes else []  # by offset, never two that touch
        self._taken: set[Region] = set()

    @property
    def free_bytes(self) -> int:
        return sum(region.size_bytes for region in self._free)

    @property
    def largest_bytes(self) -> int:
        return max((region.size_bytes for region in self._free), default=0)

    @property
    def used_bytes(self) -> int:
        return self.size_bytes - self.free_bytes

    def take(self, size_bytes: int) -> Region:
        """At least ``size_bytes``. Raises NoRoom, ValueError for a size that is not positive."""
        if size_bytes <= 0:
            raise ValueError(f"a region must have more than {size_bytes} bytes")
        wanted_bytes = aligned(size_bytes, self._alignment_bytes)
        fitting = [region for region in self._free if region.size_bytes >= wanted_bytes]
        if not fitting:
            raise NoRoom(size_bytes, self.free_bytes, self.largest_bytes)
        found = min(fitting, key=lambda region: (region.size_bytes, region.offset_bytes))
        at = bisect.bisect_left(self._free, found)
        rest = Region(found.offset_bytes + wanted_bytes, found.size_bytes - wanted_bytes)
        self._free[at : at + 1] = [rest] if rest.size_bytes else []
        region = Region(found.offset_bytes, wanted_bytes)
        self._taken.add(region)
        return region

    def give_back(self, region: Region) -> None:
        """Raises ValueError for one that is not taken."""
        if region not in self._taken:
            raise ValueError(f"{region} was not taken from here")
        self._taken.remove(region)
        at = bisect.bisect_left(self._free, region)
        begin, end = at, at
        offset, past = region.offset_bytes, region.end_bytes
        if at > 0 and self._free[at - 1].end_bytes == offset:
            begin, offset = at - 1, self._free[at - 1].offset_bytes
        if at < len(self._free) and self._free[at].offset_bytes == past:
            end, past = at + 1, self._free[at].end_bytes
        self._free[begin:end] = [Region(offset, past - offset)]


def aligned(size_bytes: int, alignment_bytes: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of ``alignment_bytes``."""
    return -(-size_bytes // alignment_bytes) * alignment_bytes
