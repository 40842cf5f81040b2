"""Cores are counted as the kernel tells them, and never more than a control group allows."""

from __future__ import annotations

import os

import pytest

from models.runtimes.cores.machine import distinct, quotas, usable_cores


@pytest.fixture
def groups(tmp_path):
    """Writes a limit of a group, and the list of this process's groups."""

    class Groups:
        own = tmp_path / "self"
        root = tmp_path / "cgroup"

        def member(self, *lines):
            self.own.write_text("".join(f"{line}\n" for line in lines))

        def limit(self, place, **files):
            folder = self.root / place
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name.replace("cpu_", "cpu.", 1)).write_text(f"{text}\n")

        def found(self):
            return sorted(quotas(self.own, self.root))

    return Groups()


def test_this_machine_has_some():
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_two_threads_of_a_core_are_one_core(tmp_path):
    for cpu in range(8):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    assert distinct(range(8), tmp_path) == 4
    assert distinct([1, 5, 2], tmp_path) == 2


def test_where_the_kernel_does_not_tell_each_cpu_is_a_core(tmp_path):
    assert distinct([0, 1, 7], tmp_path / "nothing") == 3


def test_every_limit_above_the_process_counts(groups):
    groups.member("0::/pods/one/engine")
    groups.limit("pods/one/engine", cpu_max="max 100000")
    groups.limit("pods/one", cpu_max="400000 100000")
    groups.limit("pods", cpu_max="250000 100000")
    groups.limit("pods/two", cpu_max="100000 100000")
    assert groups.found() == [2, 4]


def test_in_a_container_the_limit_is_at_the_root(groups):
    groups.member("0::/what/the/host/calls/it")
    groups.limit("", cpu_max="50000 100000")
    assert groups.found() == [1]


def test_the_older_version_counts_alike(groups):
    groups.member("5:memory:/a", "4:cpu,cpuacct:/a/b", "3:cpuset:/a")
    groups.limit("cpu,cpuacct/a", cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    groups.limit("cpu,cpuacct/a/b", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    groups.limit("cpuset/a", cpu_cfs_quota_us="100000", cpu_cfs_period_us="100000")
    assert groups.found() == [3]


def test_no_groups_no_limits(groups):
    assert groups.found() == []
    groups.member("0::/")
    assert groups.found() == []
    groups.limit("", cpu_max="nonsense")
    assert groups.found() == []
