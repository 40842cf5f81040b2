"""What keeps a node joined, step by step: on a recording node, a head that says what it is told to, and no clock."""

from __future__ import annotations

import pytest

from gateway.service.door.client import DoorError
from gateway.service.door.words import Welcome
from gateway.service.member import FIRST_WAIT_S, HEALTHY_AFTER_S, LONGEST_WAIT_S, STOPPED_S, Member


class Node:
    def __init__(self) -> None:
        self.did: list[str] = []
        self.status: int | None = None
        self.is_stopped = False

    def stopped(self) -> bool:
        return self.is_stopped

    def start(self) -> None:
        self.did.append("start")
        self.status = None

    def ended(self) -> int | None:
        return self.status

    def end(self, grace_s: float = 0.0) -> None:
        self.did.append("end")


class World:
    def __init__(self) -> None:
        self.session: str | None = "one"
        self.problem: DoorError | None = None
        self.node = Node()
        self.member = Member(ask=self.ask, node=self.node)

    def ask(self) -> Welcome:
        if self.problem is not None:
            raise self.problem
        return Welcome(head="10.0.0.1", session=self.session, seen_as="10.0.0.2")

    def steps(self, *times_s: float) -> list[str]:
        for now_s in times_s:
            self.member.step(now_s)
        did, self.node.did = self.node.did, []
        return did


@pytest.fixture
def world() -> World:
    return World()


def refusal(code: str) -> DoorError:
    return DoorError("no", code=code, cure="do")


def test_it_starts_once_the_heads_ray_runs_and_then_leaves_it_alone(world: World) -> None:
    world.session = None
    assert world.steps(0, 1, 2) == []
    world.session = "one"
    assert world.steps(3, 4, 5) == ["start"]


def test_a_node_of_an_earlier_head_is_replaced(world: World) -> None:
    world.steps(0)
    world.session = None  # the head is being started
    assert world.steps(1, 2) == []
    world.session = "two"
    assert world.steps(3, 4) == ["end", "start"]


@pytest.mark.parametrize("code", ["unreachable", "wrong_secret", "no_door"])
def test_what_runs_goes_on_while_the_head_is_out_of_reach(world: World, code: str) -> None:
    world.steps(0)
    world.problem = refusal(code)
    assert world.steps(*range(1, 500)) == []
    world.problem = None
    assert world.steps(500) == []


@pytest.mark.parametrize("code", ["name_taken", "version_mismatch"])
def test_it_gives_up_where_it_can_be_in_the_cluster_no_more(world: World, code: str) -> None:
    world.steps(0)
    world.problem = refusal(code)
    with pytest.raises(DoorError):
        world.steps(1)
    assert world.node.did == ["end"]


def test_one_that_ends_is_started_again_at_once_if_it_was_well_and_later_and_later_if_it_was_not(world: World) -> None:
    world.steps(0)
    now_s = HEALTHY_AFTER_S + 1
    waits_s = []
    for _ in range(6):
        world.node.status = 1
        assert world.steps(now_s)[0] == "end"
        ended_s = now_s
        while not world.steps(now_s):
            now_s += 0.5
        waits_s.append(now_s - ended_s)
    assert waits_s[:4] == [FIRST_WAIT_S, 2.0, 4.0, LONGEST_WAIT_S]
    assert waits_s[-1] == LONGEST_WAIT_S


def test_one_that_ended_is_not_started_for_a_head_that_is_gone(world: World) -> None:
    world.steps(0)
    world.node.status = 1
    world.problem = refusal("unreachable")
    assert world.steps(100, 101, 102) == ["end"]
    world.problem = None
    assert world.steps(110) == ["start"]


def test_one_that_is_stopped_for_long_is_replaced_and_one_that_goes_on_is_not(world: World) -> None:
    world.steps(0)
    world.node.is_stopped = True
    assert world.steps(1, STOPPED_S) == []
    world.node.is_stopped = False
    assert world.steps(STOPPED_S + 1) == []
    world.node.is_stopped = True
    assert world.steps(100, 100 + STOPPED_S - 1) == []
    assert world.steps(100 + STOPPED_S) == ["end", "start"]
