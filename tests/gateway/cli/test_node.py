"""``roundhouse node``: the list, and orders to single nodes."""

from __future__ import annotations

import time

import msgspec
import pytest

from models.store.records import CommandReply, FleetRecord, GpuRecord, NodeRecord
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FLEET, MIB, FakeAdmin


def gpu(node: str, index: int, pool: str = "owned", lost: str = "", closed: str = "") -> GpuRecord:
    return GpuRecord(
        id=f"{node}/gpu-{index}",
        node=node,
        index=index,
        name="simulated",
        simulated=True,
        memory_bytes=512 * MIB,
        reserved_bytes=0,
        free_bytes=512 * MIB,
        pool=pool,
        lost=lost,
        closed=closed,
    )


def fleet() -> FleetRecord:
    (vm,) = FLEET.nodes
    nodes = (
        vm,
        NodeRecord(id="w1", address="10.0.0.2", host_bytes=MIB, host_reserved_bytes=0, state="away", reason="cut off"),
        NodeRecord(
            id="w2",
            address="10.0.0.3",
            host_bytes=MIB,
            host_reserved_bytes=0,
            state="leaving",
            reason="spot reclaim",
            leaving_unix_s=time.time() + 90.5,
            cordoned=True,
        ),
        NodeRecord(id="w3", address="10.0.0.4", host_bytes=MIB, host_reserved_bytes=0, cordoned=True, drained=True),
    )
    gpus = (gpu("w1", 0, closed="w1 is away"), gpu("w2", 0, "spot"), gpu("w2", 1, "spot", lost="Xid 79"), gpu("w3", 0))
    return msgspec.structs.replace(FLEET, nodes=nodes, gpus=(*FLEET.gpus, *gpus))


def test_nodes_are_listed_with_how_they_stand(cli: Cli, admin: FakeAdmin) -> None:
    admin.fleet = fleet()
    shown = cli("node")
    assert shown.out == cli("node", "list").out
    vm, w1, w2, w3 = shown.out.splitlines()[1:]
    assert "ready" in vm
    assert "176 MiB of 1 GiB" in vm
    assert "away (cut off)" in w1
    assert "leaving in 90 s (spot reclaim); cordoned" in w2
    assert "1, 1 lost" in w2
    assert "spot" in w2
    assert "ready; drained" in w3
    listed = cli("node", "--json").json["data"]
    assert [node["state"] for node in listed] == ["ready", "away", "leaving", "ready"]
    assert listed[0]["replicas"] == ["tiny-llama-1"]
    assert listed[2]["lost_gpus"] == ["w2/gpu-1"]


def test_a_gpu_says_why_nothing_goes_there(cli: Cli, admin: FakeAdmin) -> None:
    admin.fleet = fleet()
    rows = {line.split()[0]: line for line in cli("gpus").out.splitlines()[1:]}
    assert "w1 is away" in rows["w1/gpu-0"]
    assert "lost: Xid 79" in rows["w2/gpu-1"]


@pytest.mark.parametrize("verb", ["cordon", "uncordon", "drain"])
def test_an_order_goes_to_the_node_by_its_name(cli: Cli, admin: FakeAdmin, verb: str) -> None:
    done = cli("node", verb, "w 1")
    assert done.status == 0
    assert admin.asked == [f"POST /admin/v1/nodes/w 1/{verb}"]
    assert admin.asked_for == [{}]
    assert "  an action" in done.out


def test_whoever_wants_waits_until_it_is_empty(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("node", "drain", "w1", "--wait", "--timeout", "9").status == 0
    assert admin.asked_for == [{"wait": "true", "timeout_s": "9.0"}]


def test_a_reclaim_says_when(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("node", "reclaim", "w1").status == 0
    assert cli("node", "reclaim", "w1", "--in", "2m").status == 0
    assert [query["in_s"] for query in admin.asked_for] == ["30.0", "120.0"]


@pytest.mark.parametrize("within", ["soon", "0s", "-5s"])
def test_a_time_that_is_none_is_refused_before_anything_is_asked(cli: Cli, admin: FakeAdmin, within: str) -> None:
    said = cli("node", "reclaim", "w1", "--in", within)
    assert said.status == 2
    assert "30s or 2m" in said.err
    assert admin.asked == []


def test_a_dry_run_shows_what_would_be_done(cli: Cli, admin: FakeAdmin) -> None:
    start = {"action": "start", "model_id": "m", "replica_id": None, "gpu": "b/gpu-0", "reason": "a is cordoned"}
    message = "if this were done: a takes no new replicas; 1 replica to leave it"
    admin.replies["nodes/a/drain"] = CommandReply(id="1", ok=True, message=message, detail={"plan": [start]})
    shown = cli("node", "drain", "a", "--dry-run", "--wait")
    assert shown.out == f"{message}\n  start m: a is cordoned\n"
    assert admin.asked_for == [{"dry_run": "true"}], "there is nothing to wait for"
    assert cli("node", "drain", "a", "--dry-run", "--json").json["detail"]["plan"] == [start]
    admin.replies["nodes/a/cordon"] = CommandReply(id="1", ok=True, message=message, detail={"plan": []})
    assert "Nothing would be started" in cli("node", "cordon", "a", "--dry-run").out


def test_a_node_that_is_not_there(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/nodes/z/cordon"] = (404, "there is no node 'z'; there are a, b.", "node_not_found")
    said = cli("node", "cordon", "z")
    assert (said.status, said.out) == (1, "")
    assert "there are a, b" in said.err
