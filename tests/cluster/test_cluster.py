"""Three machines, real Ray, real engines: they serve together, and what breaks on one is no matter of the others.

The tests share one cluster, and leave it as they found it: three replicas, each on a machine of its own.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.hosts import until
from tests.cluster.machines import RAYLET, Machine, callers, engines_by_node, raylets

pytestmark = [pytest.mark.e2e, pytest.mark.chaos]


def test_models_are_placed_over_all_machines(cluster: Cluster) -> None:
    gpus = {gpu["id"]: gpu for gpu in cluster.head.done("gpus")["data"]}
    assert gpus.keys() == {"head/gpu-0", "a/gpu-0", "b/gpu-0"}
    assert [len(gpu["replicas"]) for gpu in gpus.values()] == [1, 1, 1]
    assert gpus["a/gpu-0"]["pool"] == "a"
    assert engines_by_node(cluster.head)
    assert "on 3 nodes" in cluster.head.roundhouse("status").stdout


def test_requests_are_answered_through_every_gateway_by_engines_of_every_machine(cluster: Cluster) -> None:
    machines = (cluster.head, cluster.a, cluster.b)
    for through in (cluster.head, cluster.b):
        before = [machine.served() for machine in machines]
        with callers([through] * 6, every_s=0.0) as calls:
            until(lambda: calls.answered >= 30, 90, what="30 calls are answered")
        assert calls.failed == []
        assert all(now > then for now, then in zip((machine.served() for machine in machines), before, strict=True))


def test_a_machine_that_may_not_join_is_told_why(cluster: Cluster, tmp_path: Path) -> None:
    stranger = Machine(cluster.net.host("stranger"))
    words = stranger.join_words(cluster.head, "--gpus", "1x1GiB")
    taken = stranger.refused(*words, "--name", "a")
    assert (taken["code"], "choose another with --name" in taken["cure"]) == ("name_taken", True)
    assert cluster.a.host.address in taken["message"]
    assert stranger.refused(*words, "--name", "head")["code"] == "name_taken"
    wrong = tmp_path / "wrong.secret"
    wrong.write_text("0" * 64)
    assert stranger.refused("join", cluster.head.host.address, "--secret-file", str(wrong))["code"] == "wrong_secret"
    nobody = stranger.refused("join", cluster.a.host.address, *words[2:])
    assert (nobody["code"], "up --cluster" in nobody["cure"]) == ("unreachable", True)
    assert stranger.host.processes() == {}


def test_killed_ray_on_a_node_costs_no_request_and_no_engine(cluster: Cluster) -> None:
    before, (raylet,) = engines_by_node(cluster.head), raylets(cluster.a)
    with callers([cluster.head, cluster.b]) as calls:
        assert cluster.a.host.kill(RAYLET) == 1
        until(lambda: raylets(cluster.a) not in ([], [raylet]), 90, what="another Ray node has taken its place")
        until(lambda: cluster.head.node_state("a") == "ready", 90, what="the node is back")
    assert calls.failed == []
    assert engines_by_node(cluster.head) == before


def test_a_link_that_is_cut_for_ten_seconds_throws_nothing_away(cluster: Cluster) -> None:
    before = engines_by_node(cluster.head)
    with callers([cluster.head, cluster.b]) as calls:
        cluster.a.host.cut()
        time.sleep(10)
        cluster.a.host.mend()
        until(lambda: cluster.head.node_state("a") == "ready", 90, what="the node is back")
    assert calls.failed == []
    assert engines_by_node(cluster.head) == before


def test_rays_head_dies_and_all_machines_join_the_next_one(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    before, old = engines_by_node(cluster.head), raylets(cluster.a) + raylets(cluster.b)
    with callers([cluster.head, cluster.b]) as calls:
        assert cluster.head.host.kill("gcs_server") == 1
        began = time.monotonic()
        until(lambda: not set(old) & set(raylets(cluster.a) + raylets(cluster.b)), 90, what="the old ones are replaced")
        until(lambda: raylets(cluster.a) and raylets(cluster.b), 90, what="nodes of the new one run")
        rejoined_s = time.monotonic() - began
        until(
            lambda: (
                {name: cluster.head.node_state(name) for name in ("head", "a", "b")}
                == {"head": "ready", "a": "ready", "b": "ready"}
            ),
            30,
            what="all are back",
        )
    assert calls.failed == []
    with capsys.disabled():
        print(f"\nAll nodes are in the cluster of the next Ray head after {rejoined_s:.1f} s")
    assert engines_by_node(cluster.head) == before, "the controller has taken over every engine, and started none"
