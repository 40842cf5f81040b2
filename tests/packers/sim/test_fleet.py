"""How long things take, and whether they work."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from packers.sim.agenda import Agenda, Kind
from packers.sim.fleet import Loaded, VirtualFleet
from packers.sim.startup import StartUp, TierTime
from packers.types import Footprint, GpuId, ModelId, Node, NodeId, Replica, ReplicaId, ReplicaState

GB = 10**9
NODE = NodeId("n")
TIMES = StartUp(TierTime(2, GB), TierTime(1, 4 * GB), TierTime(0.5), stop_s=0.25, resize_s=0.75)


class Stage:
    def __init__(self, link: float = 0.0, seed: int = 0, **more: float) -> None:
        self.agenda = Agenda()
        nodes = {NODE: Node(NODE, 0, link_bytes_per_s=link)}
        self.fleet = VirtualFleet(self.agenda, TIMES, nodes, np.random.default_rng(seed), **more)  # type: ignore[arg-type]
        self.told: list[tuple[float, str, object]] = []

    def then(self, name: str) -> Callable[[Loaded], None]:
        return lambda loaded: self.told.append((self.agenda.now_s, name, (loaded.ok, loaded.seconds)))

    def done(self, name: str) -> Callable[[], None]:
        return lambda: self.told.append((self.agenda.now_s, name, None))

    def run(self) -> list[tuple[float, str, object]]:
        while self.agenda.step():
            pass
        return self.told


def replica(name: str, gb: int = 4, gpus: str = "0") -> Replica:
    where = [GpuId(f"n/{index}") for index in gpus]
    footprint = Footprint(gb * GB, 0, 0)
    return Replica(ReplicaId(name), ModelId(name), where[0], ReplicaState.STARTING, footprint, peers=tuple(where[1:]))


def test_each_thing_takes_its_time() -> None:
    stage = Stage()
    stage.fleet.start(replica("a"), NODE, stage.then("start"))
    stage.fleet.wake(replica("b", gpus="1"), NODE, stage.then("wake"))
    stage.fleet.sleep(replica("c"), stage.done("sleep"))
    stage.fleet.stop(replica("d"), stage.done("stop"))
    stage.fleet.resize(replica("e"), stage.done("resize"))
    assert stage.run() == [
        (0.25, "stop", None),
        (0.5, "sleep", None),
        (0.75, "resize", None),
        (2.0, "wake", (True, 2.0)),
        (6.0, "start", (True, 6.0)),
    ]


def test_waiting_for_its_turn_is_not_loading() -> None:
    stage = Stage()
    for name in "abc":
        stage.fleet.start(replica(name), NODE, stage.then(name))
    assert stage.run() == [(6.0, "a", (True, 6.0)), (12.0, "b", (True, 6.0)), (18.0, "c", (True, 6.0))]


def test_two_at_a_time() -> None:
    stage = Stage(loads_per_gpu=2)
    for name in "abc":
        stage.fleet.start(replica(name), NODE, stage.then(name))
    assert [one[:2] for one in stage.run()] == [(6.0, "a"), (6.0, "b"), (12.0, "c")]


def test_groups_take_turns_without_blocking_each_other_for_good() -> None:
    stage = Stage()
    for name, gpus in (("a", "01"), ("b", "12"), ("c", "20"), ("d", "3")):
        stage.fleet.wake(replica(name, gpus=gpus), NODE, stage.then(name))
    assert [one[:2] for one in stage.run()] == [(2.0, "a"), (2.0, "d"), (4.0, "b"), (6.0, "c")]


def test_a_lost_one_never_answers_and_lets_the_next_one_in() -> None:
    stage = Stage(link=GB)
    stage.fleet.start(replica("a"), NODE, stage.then("a"))
    stage.fleet.start(replica("b"), NODE, stage.then("b"))
    stage.fleet.sleep(replica("c"), stage.done("c"))
    stage.fleet.lose(ReplicaId("c"))
    stage.agenda.at(3.0, Kind.HARDWARE, lambda: stage.fleet.lose(ReplicaId("a")))
    assert stage.run() == [(9.0, "b", (True, 6.0))]


def test_one_that_waits_can_be_lost_too() -> None:
    stage = Stage()
    for name in "abc":
        stage.fleet.start(replica(name), NODE, stage.then(name))
    stage.agenda.at(1.0, Kind.HARDWARE, lambda: stage.fleet.lose(ReplicaId("b")))
    assert [one[:2] for one in stage.run()] == [(6.0, "a"), (12.0, "c")]


def test_failures_come_at_the_rate_and_from_the_seed() -> None:
    def outcomes(seed: int) -> list[object]:
        stage = Stage(seed=seed, fail_start_share=0.3, loads_per_gpu=0)
        for number in range(500):
            stage.fleet.start(replica(f"r{number}"), NODE, stage.then("start"))
        return [one[2] for one in stage.run()]

    first = outcomes(1)
    assert first == outcomes(1)
    failed = [one for one in first if one == (False, 2.0)]  # they fail before anything is read
    assert 100 < len(failed) < 200


def test_wakes_fail_at_their_own_rate() -> None:
    stage = Stage(fail_wake_share=1.0)
    stage.fleet.start(replica("a"), NODE, stage.then("a"))
    stage.fleet.wake(replica("b", gpus="1"), NODE, stage.then("b"))
    assert [one[2] for one in stage.run()] == [(False, 1.0), (True, 6.0)]
