"""Fifty nodes: joins, losses and reclaims in any order, and in storms."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.fleet.tag import Tag
from packers.types import GpuId, NodeId, ReplicaId
from tests.models.control.cluster import Cluster, names, node
from tests.models.control.scene import MIB, card
from tests.models.control.test_properties import Complaints, complaints

__all__ = ["complaints"]
MODELS = tuple(f"m{number:02}" for number in range(8))

step = st.one_of(
    st.tuples(st.sampled_from(["hold", "hold", "hold"]), st.sampled_from(MODELS)),
    st.tuples(
        st.sampled_from(["away", "back", "lose", "lose alive", "join", "cordon", "drain", "uncordon"]),
        st.integers(0, 5),
    ),
    st.tuples(st.just("leaving"), st.tuples(st.integers(0, 5), st.integers(1, 60))),
    st.tuples(st.sampled_from(["lose gpu", "gpu back"]), st.integers(0, 11)),
    st.tuples(st.sampled_from(["busy", "idle", "kill"]), st.integers(0, 11)),
    st.tuples(st.just("resize"), st.tuples(st.integers(0, 5), st.integers(40, 140))),
    st.tuples(st.just("fail"), st.sampled_from(MODELS)),
    st.tuples(st.sampled_from(["heal", "restart"]), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 80)),
)


class World:
    """What happens to six nodes with two GPUs each, and which of it can."""

    def __init__(self) -> None:
        sizes = (30, 40, 50, 60, 70, 80, 20, 90)
        cards = [
            card(name, size, max_replicas=2, priority=place % 3, min_replicas=int(place == 3), ttl=20)
            for place, (name, size) in enumerate(zip(MODELS, sizes, strict=True))
        ]
        self.nodes = {name: node(name, 100, 100, host_mib=200) for name in names(6)}
        self.cluster = Cluster(cards, self.nodes.values())
        self.up = dict.fromkeys(self.nodes, "up")

    async def act(self, what: str, which: object) -> None:
        cluster, fleet = self.cluster, self.cluster.fleet
        match what, which:
            case "hold", str():
                cluster.hold(which)
            case "wait", int():
                await cluster.run(which / 10, step_s=0.05)
            case "fail", str():
                fleet.fail_start[which] = "it is broken"
            case "heal", _:
                fleet.fail_start.clear()
            case "restart", _:
                await cluster.restart_controller(remembers=True)
            case "idle", _:
                cluster.busy = {}
            case "busy" | "kill", int():
                await self._to_engine(what, which)
            case "lose gpu" | "gpu back", int():
                await self._to_gpu(what, which)
            case "leaving" | "resize", (int() as number, int() as amount):
                await self._to_node(what, names(6)[number], amount)
            case _, int():
                await self._to_node(what, names(6)[which], 0)

    async def _to_engine(self, what: str, which: int) -> None:
        alive = sorted(self.cluster.fleet.engines)
        if alive and what == "busy":
            self.cluster.busy = {alive[which % len(alive)]: 1}
        elif alive:
            await self.cluster.fleet.kill(ReplicaId(alive[which % len(alive)]))

    async def _to_gpu(self, what: str, which: int) -> None:
        gpu = GpuId(f"n{which % 6:02}/gpu-{which // 6}")
        lost = self.cluster.fleet._nodes.of_gpu(gpu).lost_gpus
        if what == "lose gpu" and gpu not in lost:
            await self.cluster.fleet.lose_gpu(gpu, "Xid 79")
        elif what == "gpu back" and gpu in lost:
            await self.cluster.fleet.gpu_back(gpu)

    async def _to_node(self, what: str, name: NodeId, amount: int) -> None:
        fleet, state = self.cluster.fleet, self.up[name]
        match what:
            case "away" if state == "up":
                await fleet.node_away(name)
                self.up[name] = "away"
            case "back" if state == "away":
                await fleet.node_back(name)
                self.up[name] = "up"
            case "lose" | "lose alive" if state != "lost":
                await fleet.lose_node(name, alive=what == "lose alive")
                self.up[name] = "lost"
            case "join" if state == "lost":
                await fleet.join_node(self.nodes[name])
                self.up[name] = "up"
            case "resize" if state == "up":
                self.nodes[name] = node(name, amount, 100, host_mib=amount)
                await fleet.join_node(self.nodes[name])
            case "leaving" if state == "up":
                await fleet.node_leaving(name, float(amount))
            case "cordon" | "drain" | "uncordon":
                self.cluster.order_node(what, name)

    async def heal(self) -> None:
        """All is well again, and everybody who can be served is."""
        cluster, fleet = self.cluster, self.cluster.fleet
        cluster.busy = {}
        fleet.fail_start.clear()
        for name in self.nodes:
            self.nodes[name] = node(name, 100, 100, host_mib=200)
            for gpu in list(fleet._nodes.get(name).lost_gpus):
                fleet._nodes.get(name).lost_gpus.pop(gpu)
            await fleet.join_node(self.nodes[name])
        await cluster.run(0.2)
        for name in self.nodes:
            cluster.order_node("uncordon", name)
        await cluster.run(8, step_s=0.2)
        for model in MODELS:
            cluster.order("wake", model, wait=False)  # an operator's word ends every wait that crashes have earned it
            cluster.hold(model)
        await cluster.run(20, step_s=0.2)
        assert not cluster.held, f"{sorted(cluster.held)} fit, and still wait: {cluster.states()}"
        assert {name for name, state in self.up.items() if cluster.stands(name).state != "ready"} == set()

    def check(self) -> None:
        self.cluster.check()
        self._check_memory()

    def _check_memory(self) -> None:
        """What really runs fits the GPUs of every node that can be seen."""
        world = self.cluster.controller.world
        used: dict[GpuId, int] = {}
        for name, status in self.cluster.fleet.engines.values():
            if name in world.nodes and not world.yard.is_away(name):
                tag = Tag.decode(status.order.tag)
                held = tag.footprint.residue_bytes if status.state == "asleep" else tag.footprint.gpu_bytes
                used[tag.gpu] = used.get(tag.gpu, 0) + held
        for gpu in world.gpus:
            assert used.get(gpu.id, 0) <= gpu.memory_bytes, f"{gpu.id} of {gpu.memory_bytes // MIB} MiB"


async def _play(steps: list[tuple[str, object]]) -> None:
    world = World()
    await world.cluster.run(0.05)
    for what, which in steps:
        await world.act(what, which)
        await world.cluster.run(0.03)
        world.check()
    await world.heal()
    world.check()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(step, max_size=25))
@example([("resize", (0, 40)), ("lose gpu", 0)])
@example([("hold", "m00"), ("leaving", (0, 1))])  # its start waits for another load, and must not begin afterwards
@example([("hold", "m00"), ("lose", 0)])
def test_whatever_happens_to_nodes_the_ledger_holds_and_everybody_is_served_in_the_end(
    complaints: Complaints, steps: list[tuple[str, object]]
) -> None:
    complaints.said.clear()
    asyncio.run(_play(steps))
    bugs = [said for said in complaints.said if "is lost" not in said and "is not taken" not in said]
    assert bugs == [], "every plan could be applied"


@pytest.fixture
def fifty() -> Cluster:
    cards = [card(f"m{number:03}", 30 + number % 5 * 10, priority=number % 3) for number in range(80)]
    cluster = Cluster(cards, [node(name, 100, 100) for name in names(50)])
    cluster.fleet.start_s = 0.5
    return cluster


@pytest.mark.anyio
async def test_a_reclaim_storm_takes_half_of_fifty_nodes_and_nobody_is_cut_off(fifty: Cluster) -> None:
    for model in fifty.cards:
        fifty.hold(model.model_id)
    await fifty.run(6, step_s=0.1)
    assert not fifty.held
    fifty.check()
    fifty.busy = dict.fromkeys(fifty.states(), 1)  # all of them serve
    gone = names(50)[::2]
    before = {model.model_id: fifty.where(model.model_id) for model in fifty.cards}
    for name in gone:
        await fifty.fleet.node_leaving(name, 60.0, "spot reclaim")
    for _ in range(30):
        await fifty.run(1, step_s=0.1)
        for model in fifty.cards:
            assert fifty.served(model.model_id), "the substitute serves before the old one goes"
        draining = {replica for replica, state in fifty.states().items() if state == "draining"}
        fifty.busy = {replica: 1 for replica in fifty.states() if replica not in draining}
        fifty.check()
    assert all(fifty.there(name) == {} for name in gone)
    for name in gone:
        await fifty.fleet.lose_node(name)
    await fifty.run(1, step_s=0.1)
    moved = [model for model, was in before.items() if fifty.where(model) != was]
    assert moved
    assert len(fifty.controller.world.nodes) == 25
    assert all(fifty.served(model.model_id) for model in fifty.cards)
    fifty.check()


@pytest.mark.anyio
async def test_when_half_of_the_nodes_die_at_once_the_important_ones_are_back_first(fifty: Cluster) -> None:
    for model in fifty.cards:
        fifty.hold(model.model_id)
    await fifty.run(6, step_s=0.1)
    fifty.busy = dict.fromkeys(fifty.states(), 1)
    lost = {
        model.model_id for model in fifty.cards if NodeId(fifty.where(model.model_id)[0].split("/")[0]) in names(25)
    }
    for name in names(25):
        await fifty.fleet.lose_node(name)
    await fifty.run(0.1)
    fifty.busy = dict.fromkeys(fifty.states(), 1)
    for gone in lost:
        fifty.hold(gone)
    await fifty.run(0.2)
    started = [one.model_id for one in fifty.store.decisions if one.action == "start"][-len(lost) :]
    ranks = [next(each.priority for each in fifty.cards if each.model_id == model) for model in started]
    assert set(started) == lost
    assert ranks == sorted(ranks, reverse=True), "by priority"
    await fifty.run(6, step_s=0.1)
    assert not fifty.held
    fifty.check()


@pytest.mark.anyio
async def test_fifty_nodes_come_and_go_for_an_hour(fifty: Cluster) -> None:
    rng = random.Random(6)
    down: set[NodeId] = set()
    for _ in range(30):
        for name in rng.sample(names(50), 4):
            if name in down:
                await fifty.fleet.join_node(node(name, 100, 100))
                down.discard(name)
            else:
                await fifty.fleet.lose_node(name, alive=rng.random() < 0.5)
                down.add(name)
        for model in rng.sample([each.model_id for each in fifty.cards], 6):
            fifty.hold(model)
        await fifty.run(2, step_s=0.2)
        fifty.check()
        await fifty.run(118, step_s=10.0)
        fifty.check()
    assert not fifty.held
    standing = {record.id: record.state for record in fifty.store.fleet.nodes} if fifty.store.fleet else {}
    assert {name for name, state in standing.items() if state == "ready"} == set(names(50)) - down
    assert msgspec.json.encode(fifty.store.fleet)
