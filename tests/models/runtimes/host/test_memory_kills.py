"""The kernel's counters and its log, as files of a test."""

from __future__ import annotations

import pytest

from models.runtimes.host.memory_kills import MemoryKills


class Machine:
    """/proc, /sys/fs/cgroup and /dev/kmsg in a folder."""

    def __init__(self, root, group_line, group_file):
        self.proc, self.cgroups, self.log = root / "proc", root / "cgroup", root / "kmsg"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(f"1:cpu:/x\n{group_line}\n")
        self.group = self.cgroups / group_file
        self.group.parent.mkdir(parents=True)
        self.log.write_text("")
        self.count(machine=3, group=1)
        self.kills = MemoryKills(self.proc, self.cgroups, self.log)

    def count(self, machine, group):
        (self.proc / "vmstat").write_text(f"pgfault 12\noom_kill {machine}\n")
        self.group.write_text(f"low 0\nhigh 0\noom 5\noom_kill {group}\n")


@pytest.fixture(params=["version 2", "version 1"])
def machine(request, tmp_path):
    if request.param == "version 2":
        return Machine(tmp_path, "0::/unit", "unit/memory.events")
    return Machine(tmp_path, "4:memory:/unit", "memory/unit/memory.oom_control")


def test_when_nothing_was_counted_nothing_is_said(machine):
    assert machine.kills.explain(5) is None


def test_the_kernels_own_log_is_certain(machine):
    machine.log.write_text("6,1,2,-;Out of memory: Killed process 5 (python) total-vm:1kB\n")
    assert machine.kills.explain(5) == "the kernel ended it because memory had run out"
    assert machine.kills.explain(55) is None


def test_the_groups_limit_is_told_from_the_machines_memory(machine):
    machine.count(machine=4, group=2)
    assert "probably" in machine.kills.explain(5)
    machine.count(machine=5, group=3)
    assert "control group" in machine.kills.explain(5)
    machine.count(machine=6, group=3)
    assert machine.kills.explain(5) == "probably ended by the kernel: the machine ran out of memory just then"


def test_a_count_explains_one_death_only(machine):
    machine.count(machine=4, group=1)
    assert machine.kills.explain(5) is not None
    assert machine.kills.explain(6) is None


def test_a_machine_that_tells_nothing_is_no_reason_to_fail(tmp_path):
    assert MemoryKills(tmp_path / "a", tmp_path / "b", tmp_path / "c").explain(1) is None


def test_this_machine_can_be_asked():
    assert MemoryKills().explain(2**22 + 1) is None
