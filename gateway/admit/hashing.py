"""Numbers for keys and names that are the same in every worker, and spread evenly."""

from __future__ import annotations

import zlib
from math import log

MIX = 0x9E3779B97F4A7C15  # 2^64 / golden ratio (Knuth, The Art of Computer Programming, vol. 3, section 6.4)
LOW_64 = (1 << 64) - 1


def spread(key: int) -> int:
    """64 bits of a key, all stirred (the first half of MurmurHash3's finalizer)."""
    key &= LOW_64
    key = ((key ^ (key >> 33)) * 0xFF51AFD7ED558CCD) & LOW_64
    return key ^ (key >> 33)


def salt_of(name: str) -> int:
    return spread((zlib.crc32(name.encode()) * MIX) & LOW_64)


def score(stirred: int, salt: int) -> int:
    """Of two replicas the one with the higher score has the key (rendezvous hashing, Thaler & Ravishankar 1998)."""
    return ((stirred ^ salt) * MIX) & LOW_64


def weighted(found: int, weight: float) -> float:
    """A score that wins by weight (Schindelhauer & Schomaker, SPAA 2005, the logarithmic method)."""
    return -weight / log((found + 1) / (LOW_64 + 2))


def point(key: int) -> float:
    """A place in [0, 1) for a key."""
    return score(spread(key), 0) / (LOW_64 + 1)
