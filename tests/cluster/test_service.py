"""Machines taken out of service and back, GPUs that fail, notices of a reclaim: with callers, who notice nothing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.hosts import until
from tests.cluster.machines import all_ready, callers, engines_by_node

SPARE = True
pytestmark = [pytest.mark.e2e, pytest.mark.long]


def where(cluster: Cluster) -> list[str]:
    """The nodes of all replicas that are ready, sorted."""
    return sorted(replica["node"] for replica in cluster.head.replicas().values())


def held(cluster: Cluster, node: str) -> int:
    return sum(len(found["entries"]) for found in cluster.head.admin("ledger")["gpus"] if found["node"] == node)


def test_a_machine_is_drained_and_takes_replicas_again(cluster: Cluster) -> None:
    assert where(cluster) == ["a", "a", "head"]
    plan = cluster.head.done("node", "drain", "a", "--dry-run")["detail"]["plan"]
    assert {(action["action"], action["gpu"].split("/")[0]) for action in plan} == {("start", "b")}
    with callers([cluster.head, cluster.b]) as calls:
        done = cluster.head.done("node", "drain", "a", "--wait", "--timeout", "90", timeout_s=120)
        assert done["message"] == "a is empty"
        assert held(cluster, "a") == 0
        assert where(cluster) == ["b", "b", "head"]
        listed = {node["id"]: node for node in cluster.head.done("node", "list")["data"]}
        assert (listed["a"]["cordoned"], listed["a"]["drained"]) == (True, True)
    assert calls.failed == []
    assert calls.answered > 10
    cluster.head.done("node", "uncordon", "a")


def test_a_notice_that_a_machine_will_be_taken_away_empties_it_in_time(cluster: Cluster) -> None:
    assert where(cluster) == ["b", "b", "head"]
    gone_s = time.time() + 45
    with callers([cluster.head]) as calls:
        (cluster.b.host.home / "run" / "reclaim").write_text(f"{gone_s:.0f}")
        until(lambda: cluster.head.node_state("b") == "leaving", 15, what="it is heard of")
        until(lambda: where(cluster) == ["a", "a", "head"] and not held(cluster, "b"), 40, what="it is empty")
        assert time.time() < gone_s
    assert calls.failed == []
    (cluster.b.host.home / "run" / "reclaim").unlink()
    until(lambda: cluster.head.node_state("b") == "ready", 15, what="it was called off")


def test_a_gpu_that_fails_takes_its_replica_with_it_and_is_back_after_its_repair(cluster: Cluster) -> None:
    before = engines_by_node(cluster.head)
    file = cluster.a.host.home / "run" / "lost-gpus"
    with callers([cluster.head]) as calls:
        file.write_text("0 Xid 79: it has fallen off the bus\n")
        until(lambda: where(cluster) == ["a", "b", "head"], 40, what="its replica runs on b")
        lost = next(gpu for gpu in cluster.head.admin("gpus")["data"] if gpu["id"] == "a/gpu-0")
        assert lost["lost"] == "Xid 79: it has fallen off the bus"
    # Whoever had a first byte from it got the end of the stream; others were answered elsewhere.
    assert calls.failed == []
    after = engines_by_node(cluster.head)
    assert set(after["head"]) == set(before["head"])
    file.write_text("")
    until(lambda: not _lost(cluster), 15, what="it is back")
    all_ready(cluster.head, 3)


def _lost(cluster: Cluster) -> list[str]:
    return [gpu["id"] for gpu in cluster.head.admin("gpus")["data"] if gpu["lost"]]


def test_a_new_controller_knows_what_was_said_of_machines(cluster: Cluster) -> None:
    before = engines_by_node(cluster.head)
    cluster.head.done("node", "cordon", "b")
    pid = cluster.head.admin("status")["controller"]["pid"]
    os.kill(pid, signal.SIGKILL)

    def another() -> bool:
        now = cluster.head.admin("status")["controller"]
        return bool(now["alive"]) and now["pid"] != pid

    until(another, 30, what="another controller decides")
    assert engines_by_node(cluster.head) == before
    stands = {node["id"]: node for node in cluster.head.nodes()}
    assert (stands["b"]["state"], stands["b"]["cordoned"]) == ("ready", True)
    cluster.head.done("node", "uncordon", "b")
