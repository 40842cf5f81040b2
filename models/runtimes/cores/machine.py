"""How many cores this process may compute on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


@cache
def usable_cores() -> int:
    """At once: its CPUs, those of one core as one, within the quota of its control groups. At least 1."""
    cores = distinct(os.sched_getaffinity(0), TOPOLOGY)
    return max(1, min((cores, *quotas(OWN_GROUPS, CGROUPS))))


def distinct(cpus: Iterable[int], topology: Path) -> int:
    """Cores that these CPUs belong to; a second thread of a core computes nothing that the first could not."""
    siblings = set()
    for cpu in cpus:
        try:
            siblings.add((topology / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


def quotas(own_groups: Path, cgroups: Path) -> Iterator[int]:
    """Whole CPUs that each limit over this process leaves it, of control groups in either version."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            root = cgroups / controllers
            # In a container the path may be the host's: what can be seen then is at the root.
            folder = root / group.strip("/")
            for place in (folder, *folder.parents[: len(folder.relative_to(root).parts)]):
                yield from _quota(place)


def _quota(group: Path) -> Iterator[int]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            limit, period = " ".join((group / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if limit not in ("max", "-1"):
            yield max(1, int(limit) // int(period))
