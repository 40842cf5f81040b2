"""Machines that go for good, or for long: what ran on them runs elsewhere, and what serves goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from gateway.service.departure import engines
from models.home import Home
from tests.cluster.conftest import Cluster
from tests.cluster.hosts import until
from tests.cluster.machines import RAYLET, Machine, callers, engines_by_node, raylets

SPARE = True
# Longer than Ray waits for a head unless told otherwise (60 s), and than an engine lives without its keeper (60 s).
WITHOUT_HEAD_S = 80.0
# The head has the store as well: keys that were seen within the last minute go on working without it.
KEYS_KNOWN_S = 40.0
pytestmark = [pytest.mark.e2e, pytest.mark.chaos, pytest.mark.long]


def test_a_machine_that_loses_power_is_replaced_by_what_is_left_and_may_come_back(cluster: Cluster) -> None:
    before = engines_by_node(cluster.head)
    assert {name: len(pids) for name, pids in before.items()} == {"head": 1, "a": 2}
    with callers([cluster.head, cluster.b]) as calls:
        cluster.a.host.crash()

        def moved() -> bool:
            return [replica["node"] for replica in cluster.head.replicas().values()].count("b") == 2

        until(moved, 90, what="what was there runs on b")
    # Calls that its engines were just answering have no first byte yet, and go elsewhere.
    assert calls.failed == []
    assert cluster.head.node_state("a") in ("lost", "absent")
    cluster.a.host.mend()
    until(lambda: cluster.a.reaches(cluster.head), 90, what="the network is there again")
    cluster.a.join(cluster.head, "--gpus", "2x320MiB", "--pool", "a")
    until(lambda: cluster.head.node_state("a") == "ready", 90, what="it is back")
    assert engines_by_node(cluster.head)["head"] == before["head"]


def test_a_machine_that_leaves_hands_over_what_runs_on_it_first(cluster: Cluster) -> None:
    assert "b" in engines_by_node(cluster.head)
    with callers([cluster.head]) as calls:
        left = cluster.b.done("down", timeout_s=120)
        assert (left["was_running"], left["forced"], left["leftovers_ended"]) == (True, False, 0)
        assert cluster.b.host.processes() == {}
        assert engines_by_node(cluster.head).keys() == {"head", "a"}
        until(lambda: cluster.head.node_state("b") in ("lost", "absent"), 120, what="it counts as gone")
    assert calls.failed == []
    cluster.b.join(cluster.head, "--gpus", "2x320MiB", *cluster.b.gateway)
    until(lambda: cluster.head.node_state("b") == "ready", 90, what="it is back")


def test_what_keeps_a_machine_in_the_cluster_may_be_killed(cluster: Cluster) -> None:
    before, (raylet,) = engines_by_node(cluster.head), raylets(cluster.a)
    with callers([cluster.head, cluster.b]) as calls:
        assert cluster.a.host.kill("gateway.service.member") == 1
        until(lambda: raylets(cluster.a) not in ([], [raylet]), 90, what="it has started another Ray node")
        until(lambda: cluster.head.node_state("a") == "ready", 90, what="the node is back")
    assert calls.failed == []
    assert engines_by_node(cluster.head) == before


def test_ray_that_hangs_on_a_node_is_replaced(cluster: Cluster) -> None:
    (raylet,) = raylets(cluster.a)
    with callers([cluster.head, cluster.b]) as calls:
        assert cluster.a.host.kill(RAYLET, signal.SIGSTOP) == 1
        until(lambda: raylets(cluster.a) not in ([], [raylet]), 120, what="another one has taken its place")
        until(lambda: cluster.head.node_state("a") == "ready", 120, what="the node is back")
    assert calls.failed == []
    assert sum(map(len, engines_by_node(cluster.head).values())) == 3


def test_the_door_may_be_killed(cluster: Cluster) -> None:
    before, ray = engines_by_node(cluster.head), raylets(cluster.a)
    (door,) = cluster.head.host.pids("gateway.service.door")
    assert cluster.head.host.kill("gateway.service.door") == 1
    until(lambda: cluster.head.host.pids("gateway.service.door") not in ([], [door]), 90, what="it runs again")
    until(cluster.head.admits, 90, what="others may join again")
    refused = cluster.b.refused(
        *cluster.b.join_words(cluster.head, "--name", "a", "--home", str(cluster.config.parent))
    )
    assert refused["code"] == "name_taken", "it still knows who is who"
    assert (engines_by_node(cluster.head), raylets(cluster.a)) == (before, ray)


def test_engines_of_the_nodes_serve_on_without_the_head_and_are_adopted_by_the_next(cluster: Cluster) -> None:
    before = engines_by_node(cluster.head)
    on_nodes = {pid for name, pids in before.items() if name != "head" for pid in pids}
    assert on_nodes
    assert cluster.b.chat().status_code == 200  # so that its gateway has seen the key
    cluster.head.host.crash()
    began = time.monotonic()
    answered = 0
    while time.monotonic() - began < WITHOUT_HEAD_S:
        if time.monotonic() - began < KEYS_KNOWN_S:
            answer = cluster.b.chat()
            assert answer.status_code == 200, answer.text
            answered += 1
        assert all(alive(pid) for pid in on_nodes)
        time.sleep(0.5)
    assert answered > 10
    cluster.head.host.mend()
    cluster.head.up(cluster.config)
    after = engines_by_node(cluster.head, 3, 90)
    assert on_nodes <= {pid for pids in after.values() for pid in pids}, "none was started anew"
    assert cluster.b.chat().status_code == cluster.head.chat().status_code == 200


def test_a_link_that_is_cut_for_a_minute_leaves_no_engine_twice(cluster: Cluster) -> None:
    """Nobody can tell it from a machine that is gone, so what ran there is started elsewhere; then it is back."""
    cut_off = "a" if "a" in engines_by_node(cluster.head) else "b"
    machine = {"a": cluster.a, "b": cluster.b}[cut_off]
    machine.host.cut()
    until(lambda: cluster.head.node_state(cut_off) in ("lost", "absent"), 120, what="it counts as lost")
    assert cut_off not in engines_by_node(cluster.head, 3, 120)
    time.sleep(20)
    machine.host.mend()
    until(lambda: cluster.head.node_state(cut_off) == "ready", 120, what="it is back")
    until(lambda: listening_engines(machine) == 0, 120, what="what ran there is ended")
    assert sum(map(len, engines_by_node(cluster.head).values())) == 3
    with callers([cluster.head]) as calls:
        until(lambda: calls.answered >= 5, 90, what="calls are answered")
    assert calls.failed == []


def listening_engines(machine: Machine) -> int:
    return len(engines(Home.find(machine.host.home)))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
