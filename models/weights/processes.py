"""Processes of this machine, by what /proc says of them."""

from __future__ import annotations

import os
from pathlib import Path


def started_ticks(pid: int) -> int | None:
    """When a process started (field 22 of /proc/pid/stat); None when there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def is_alive(pid: int) -> bool:
    return started_ticks(pid) is not None


def mapped_files(below: Path) -> set[Path]:
    """Files below a folder that any process of this user has mapped now."""
    found: set[Path] = set()
    prefix = f"{below}/".encode()
    for process in os.listdir("/proc"):
        if not process.isdigit():
            continue
        try:
            maps = Path(f"/proc/{process}/maps").read_bytes()
        except OSError:  # gone, or somebody else's
            continue
        if prefix not in maps:
            continue
        for line in maps.splitlines():
            place = line.find(prefix)
            if place >= 0:
                found.add(Path(os.fsdecode(line[place:]).removesuffix(" (deleted)")))
    return found
