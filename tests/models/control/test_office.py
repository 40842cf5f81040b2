"""Coming into office: above whoever Redis or a node has heard of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.control.fence import LeaseLost
from models.control.office import cluster_id, deposed, stay_in_office, take_office
from models.fleet.protocol import Superseded
from tests.gateway.virtual_time import play

pytestmark = pytest.mark.anyio


class Numbers:
    """Redis, as far as it matters here. ``stored``: 0 when it has forgotten."""

    def __init__(self, stored: int = 0) -> None:
        self.stored = stored
        self.epoch = 0

    async def take(self, above: int = 0) -> int:
        self.epoch = self.stored = max(self.stored, above) + 1
        return self.epoch

    async def restore(self) -> None:
        if self.stored > self.epoch:
            raise LeaseLost("another one")
        self.stored = self.epoch


class Node:
    def __init__(self, obeys: int = 0) -> None:
        self.obeys = obeys

    async def claim(self, epoch: int) -> int:
        before, self.obeys = self.obeys, max(self.obeys, epoch)
        return before


@given(stored=st.integers(0, 50), obeyed=st.integers(0, 50))
def test_whoever_comes_into_office_is_later_than_any_other(stored: int, obeyed: int) -> None:
    numbers, node = Numbers(stored), Node(obeyed)
    epoch = play(take_office(numbers, node))
    assert epoch == numbers.stored == node.obeys == numbers.epoch
    assert epoch > max(stored, obeyed)


async def test_two_that_come_at_once_after_redis_has_forgotten_do_not_get_the_same_number() -> None:
    numbers, node = Numbers(), Node(7)
    one, other = Numbers(), Numbers()
    first = await take_office(numbers, node)
    one.stored = other.stored = numbers.stored
    assert first == 8
    assert await take_office(one, node) == 9
    other.stored = one.stored
    assert await take_office(other, node) == 10


async def test_redis_forgets_and_the_nodes_confirm() -> None:
    numbers, node = Numbers(), Node()
    epoch = await take_office(numbers, node)
    numbers.stored = 0
    await stay_in_office(numbers, node)
    assert numbers.stored == epoch


async def test_redis_forgets_and_the_nodes_know_of_a_later_one() -> None:
    numbers, node = Numbers(), Node()
    await take_office(numbers, node)
    numbers.stored, node.obeys = 0, 5
    with pytest.raises(Superseded, match="controller 5"):
        await stay_in_office(numbers, node)
    assert numbers.stored == 0, "nothing was written"


async def test_nodes_that_have_forgotten_too_learn_it_again() -> None:
    numbers, node = Numbers(), Node()
    epoch = await take_office(numbers, node)
    numbers.stored = node.obeys = 0
    await stay_in_office(numbers, node)
    assert (numbers.stored, node.obeys) == (epoch, epoch)


def test_the_end_of_an_office_is_seen_in_whatever_group_of_problems_it_comes() -> None:
    assert deposed(LeaseLost("x"))
    assert deposed(Superseded(3))
    assert deposed(BaseExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [Superseded(3)])]))
    assert not deposed(ExceptionGroup("tasks", [ValueError("LeaseLost")]))


def test_a_cluster_has_one_name_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "cluster.id"
    drawn = cluster_id(path)
    assert len(drawn) == 16
    assert cluster_id(path) == drawn
    assert path.stat().st_mode & 0o777 == 0o600
    assert cluster_id(tmp_path / "other.id") != drawn
