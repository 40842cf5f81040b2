"""Ports for servers, out of the way of callers' own.

The system gives the ends of outgoing connections numbers from a range, and benchmarks open many of them: a port out of
that range may be taken again before a server that needs seconds to start listens on it.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 10_240
TRIES = 1000
RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(rng: random.Random | None = None, range_file: Path = RANGE_FILE) -> int:
    """A port that is free on all addresses, below the range of outgoing connections. Raises OSError when none is."""
    highest = max(LOWEST + TRIES, int(range_file.read_text().split()[0]))
    rng = rng or random.SystemRandom()
    for _ in range(TRIES):
        port = rng.randrange(LOWEST, highest)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
    raise OSError(f"no port from {LOWEST} to {highest} is free")


def free_ports(count: int) -> tuple[int, ...]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return tuple(sorted(found))
