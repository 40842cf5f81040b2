from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtests.chaos.callers import Callers
from loadtests.chaos.calls import How
from tests.e2e.service import until
from tests.loadtests.fake_service import FakeModel, FakeService


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService({"m": FakeModel()}).running() as running:
        yield running


def test_a_crowd_asks_until_it_is_enough_one_half_of_it_for_streams(service: FakeService) -> None:
    callers = Callers(service.target)
    callers.crowd("m", 4, tokens=3)
    until(lambda: len(callers.answered()) > 20)
    assert callers.join(10) == 0
    assert callers.open() == 0
    assert {call.how for call in callers.calls} == {How.OK}
    assert {call.streamed for call in callers.calls} == {True, False}
    assert {body["max_tokens"] for body in service.asked} == {3}


def test_some_ask_once(service: FakeService) -> None:
    callers = Callers(service.target)
    callers.once("m", 3, tokens=1)
    assert callers.join(10) == 0
    assert len(callers.calls) == 3
    assert callers.answered(since_s=callers.calls[-1].ended_s + 1) == []


def test_one_asks_until_it_is_answered(service: FakeService) -> None:
    service.models["m"].refusal = (503, "not yet")
    callers = Callers(service.target)
    callers.until_answered("m", tokens=1, every_s=0.01)
    until(lambda: len(callers.calls) > 3)
    service.models["m"].refusal = None
    until(callers.answered)
    assert callers.join(10) == 0
    assert [call.how for call in callers.calls].count(How.OK) == 1


def test_who_still_waits_is_counted(service: FakeService) -> None:
    service.models["m"].breaks = "hang"
    callers = Callers(service.target)
    callers.once("m", 1, tokens=1)
    until(lambda: callers.open() == 1)
    assert callers.join(0.01) == 1
    service.open.set()
    assert callers.join(10) == 0
