"""What operators say of nodes: done, or refused with the cure; and it outlives the controller."""

from __future__ import annotations

import pytest

from models.control.node_book import SHOWN_LOST_S
from models.control.nodes import RECLAIM_DRAIN_S, RECLAIM_MARGIN_S
from models.control.world import as_node
from packers.types import NodeId
from tests.models.control.cluster import Cluster, node
from tests.models.control.scene import card

pytestmark = pytest.mark.anyio
A, B = NodeId("a"), NodeId("b")


async def test_nothing_new_goes_to_a_cordoned_node_and_what_is_there_stays() -> None:
    cluster = Cluster([card("m", 30), card("o", 30)], [node("a"), node("b")])
    await cluster.ready("m")
    reply = await cluster.told(cluster.order_node("cordon", "a"))
    assert reply.message == "a takes no new replicas; 1 replica there stays"
    assert reply.actions == ["m-1"]
    await cluster.ready("o")
    assert (cluster.where("m"), cluster.where("o")) == (["a/gpu-0"], ["b/gpu-0"])
    assert cluster.stands("a").cordoned
    assert cluster.store.fleet is not None
    assert [gpu.closed for gpu in cluster.store.fleet.gpus] == ["a is cordoned", ""]
    reply = await cluster.told(cluster.order_node("uncordon", "a"))
    assert reply.message == "a takes replicas again"
    assert not cluster.stands("a").cordoned
    cluster.check()


async def test_a_sleeper_on_a_cordoned_node_is_started_elsewhere() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    await cluster.ready("m")
    cluster.order("sleep", "m")
    await cluster.run(1)
    cluster.order_node("cordon", "a")
    await cluster.ready("m")
    assert cluster.where("m") == ["b/gpu-0"]


async def test_a_drained_node_is_empty_in_the_end_with_substitutes_first() -> None:
    cluster = Cluster([card("m", 60, min_replicas=1), card("o", 30)], [node("a"), node("b")])
    await cluster.run(2)
    await cluster.ready("o")
    cluster.busy = {"m-1": 1}
    command = cluster.order_node("drain", "a", wait=True)
    await cluster.run(1)
    assert cluster.reply(command) is None
    assert sorted(cluster.where("m")) == ["a/gpu-0", "b/gpu-0"]
    await cluster.run(1)
    cluster.busy = {}
    await cluster.run(2)
    reply = cluster.reply(command)
    assert reply is not None
    assert (reply.ok, reply.message) == (True, "a is empty")
    assert cluster.there("a") == {}
    assert cluster.where("m") == ["b/gpu-0"]
    cluster.check()


async def test_whoever_waits_for_a_drain_hears_when_it_is_taken_back() -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    await cluster.ready("m")
    cluster.busy = {"m-1": 1}
    command = cluster.order_node("drain", "a", wait=True)
    await cluster.run(1)
    await cluster.told(cluster.order_node("uncordon", "a"))
    reply = await cluster.told(command)
    assert (reply.ok, reply.code) == (False, "uncordoned")


async def test_whoever_waits_for_a_drain_hears_when_the_node_is_lost() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    await cluster.ready("m")
    cluster.busy = {"m-1": 1}
    command = cluster.order_node("drain", "a", wait=True)
    await cluster.run(0.2)
    await cluster.fleet.lose_node(A)
    reply = await cluster.told(command)
    assert (reply.ok, reply.message) == (True, "a is gone, and what was on it with it")


async def test_a_reclaim_that_an_operator_announces_is_one_like_any_other() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    await cluster.ready("m")
    cluster.busy = {"m-1": 1}
    gone_at_s = cluster.clock() + 60
    command = cluster.order_node("reclaim", "a", in_s=60.0)
    reply = await cluster.told(command)
    assert reply.message == "a is gone in 60 s; 1 replica to leave it"
    assert reply.detail["leaves_by_unix_s"] == gone_at_s - RECLAIM_MARGIN_S
    assert reply.detail["drains_from_unix_s"] == gone_at_s - RECLAIM_MARGIN_S - RECLAIM_DRAIN_S
    assert (cluster.stands("a").state, cluster.stands("a").leaving_unix_s) == ("leaving", gone_at_s)
    await cluster.run(2)
    cluster.busy = {}
    await cluster.run(1)
    assert cluster.there("a") == {}
    assert cluster.where("m") == ["b/gpu-0"]
    await cluster.told(cluster.order_node("uncordon", "a"))
    assert (cluster.stands("a").state, cluster.stands("a").leaving_unix_s) == ("ready", None)


@pytest.mark.parametrize(
    ("verb", "name", "in_s", "code", "says"),
    [
        ("cordon", "z", None, "node_not_found", "there is no node 'z'; these are there: a, b"),
        ("reclaim", "a", None, "invalid_request", "in how many seconds"),
        ("reclaim", "a", -5.0, "invalid_request", "in how many seconds"),
    ],
)
async def test_what_makes_no_sense_is_refused(verb: str, name: str, in_s: float | None, code: str, says: str) -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    reply = await cluster.told(cluster.order_node(verb, name, in_s=in_s))
    assert (reply.ok, reply.code) == (False, code)
    assert says in reply.message


async def test_a_cordon_outlives_the_loss_of_its_node_and_the_controller() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b"), node("c")])
    cluster.order_node("drain", "a")
    await cluster.run(0.1)
    for name in (A, B, NodeId("c")):
        await cluster.fleet.lose_node(name, "it is being repaired")
    reply = await cluster.told(cluster.order_node("cordon", "b"))
    assert reply.message == "b is lost (it is being repaired); it takes none when it joins again"
    reply = await cluster.told(cluster.order_node("reclaim", "c", in_s=5.0))
    assert (reply.ok, reply.code) == (False, "node_not_found")
    await cluster.run(SHOWN_LOST_S + 10, step_s=5.0)
    assert cluster.store.fleet is not None
    assert {record.id for record in cluster.store.fleet.nodes} == {"a", "b"}
    await cluster.restart_controller()
    await cluster.run(SHOWN_LOST_S + 10, step_s=5.0)
    for word in "abc":
        await cluster.fleet.join_node(node(word))
    await cluster.run(0.1)
    assert [(cluster.stands(n).state, cluster.stands(n).cordoned, cluster.stands(n).drained) for n in "abc"] == [
        ("ready", True, True),
        ("ready", True, False),
        ("ready", False, False),
    ]


async def test_a_lost_node_is_forgotten_when_its_cordon_is_taken_back() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    cluster.order_node("cordon", "a")
    await cluster.run(0.1)
    await cluster.fleet.lose_node(A)
    await cluster.run(SHOWN_LOST_S + 10, step_s=5.0)
    reply = await cluster.told(cluster.order_node("uncordon", "a"), 1)
    assert reply.message.endswith("it takes replicas when it joins again")
    assert cluster.store.fleet is not None
    assert {record.id for record in cluster.store.fleet.nodes} == {"b"}


async def test_a_node_that_is_away_hears_of_it_when_it_is_back() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    await cluster.ready("m")
    await cluster.fleet.node_away(A, "cut off")
    reply = await cluster.told(cluster.order_node("drain", "a"))
    assert "it is away (cut off)" in reply.message
    await cluster.run(2)
    assert cluster.there("a") == {"m-1": "ready"}
    await cluster.fleet.node_back(A)
    await cluster.run(2)
    assert cluster.there("a") == {}


async def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    cluster = Cluster([card("m", 60, min_replicas=1)], [node("a"), node("b")])
    await cluster.run(2)
    cluster.busy = {"m-1": 1}
    reply = await cluster.told(cluster.order_node("drain", "a", dry_run=True))
    assert reply.message == "if this were done: a takes no new replicas; 1 replica to leave it"
    (start,) = reply.detail["plan"]
    assert (start["action"], start["model_id"], start["gpu"]) == ("start", "m", "b/gpu-0")
    assert "a/gpu-0 is cordoned" in start["reason"]
    reply = await cluster.told(cluster.order_node("cordon", "a", dry_run=True))
    assert reply.detail["plan"] == []
    reply = await cluster.told(cluster.order_node("uncordon", "a", dry_run=True))
    assert reply.message == "a is not cordoned: nothing would change"
    reply = await cluster.told(cluster.order_node("reclaim", "a", dry_run=True, in_s=30.0))
    assert len(reply.detail["plan"]) == 1
    await cluster.run(1)
    assert cluster.states() == {"m-1": "ready"}
    assert (cluster.stands("a").state, cluster.stands("a").cordoned) == ("ready", False)


async def test_what_operators_said_of_nodes_outlives_the_controller() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b"), node("c")])
    cluster.order_node("cordon", "a")
    cluster.order_node("drain", "b")
    cluster.order_node("reclaim", "c", in_s=500.0)
    await cluster.run(0.1)
    await cluster.restart_controller()
    await cluster.run(0.1)
    stands = {name: cluster.stands(name) for name in "abc"}
    assert (stands["a"].cordoned, stands["a"].drained) == (True, False)
    assert (stands["b"].cordoned, stands["b"].drained) == (True, True)
    assert stands["c"].state == "leaving"
    assert stands["c"].reason == "an operator said so"
    cluster.hold("m")
    await cluster.run(1)
    assert "m" in cluster.held, "no node is open"
    assert cluster.controller.world.cordoned == set(), "its GPUs are not cordoned one by one as well"
    for name in "abc":
        cluster.order_node("uncordon", name)
    await cluster.run(2)
    assert "m" not in cluster.held


async def test_a_cordon_of_a_node_that_was_away_outlives_the_controller_too() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    cluster.order_node("cordon", "a")
    await cluster.run(0.1)
    await cluster.fleet.node_away(A)
    await cluster.run(0.1)
    await cluster.restart_controller()
    await cluster.run(0.1)
    await cluster.fleet.node_back(A)
    await cluster.run(0.1)
    assert (cluster.stands("a").state, cluster.stands("a").cordoned) == ("ready", True)
    assert as_node(cluster.controller.world.nodes[A]).host_bytes == 4096 << 20
