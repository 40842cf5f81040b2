"""Asking as often as it takes: what is busy is asked again, what is wrong is not, what fails not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.asking import Answer, Failure, header
from gateway.attempts import MOST_ATTEMPTS, Attempts
from gateway.errors import EngineLost, NotFound
from gateway.inquiry import Caller
from gateway.plane.inprocess import CutOff
from tests.gateway.batches.bench import Spoken
from tests.gateway.virtual_time import play

BUSY = Spoken(503, b"{}")


class Engine:
    """Gives its answers one after the other; the last one again and again."""

    def __init__(self, *answers: Spoken | Exception) -> None:
        self.answers = list(answers)
        self.asked_s: list[float] = []
        self.priorities: set[int] = set()

    async def ask(self, path: str, body: bytes, caller: Caller, *, priority: int) -> Spoken:
        self.asked_s.append(asyncio.get_running_loop().time())
        self.priorities.add(priority)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def asked(engine: Engine, after: Callable[[], None] = lambda: None) -> Answer | Failure:
    async def story() -> Answer | Failure:
        return await Attempts(engine.ask, 1.0, 30.0, -10).ask("/v1/x", b"{}", Caller("ann"))

    return play(story())


@pytest.mark.parametrize("status", [200, 400, 404, 413])
def test_an_answer_is_an_answer(status: int) -> None:
    engine = Engine(Spoken(status, b"{}"))
    assert asked(engine) == Spoken(status, b"{}")
    assert len(engine.asked_s) == 1
    assert engine.priorities == {-10}


@pytest.mark.parametrize("status", [429, 503])
def test_what_is_busy_is_asked_again_later_and_later(status: int) -> None:
    engine = Engine(*[Spoken(status, b"{}")] * 8, Spoken(200, b"done"))
    assert asked(engine) == Spoken(200, b"done")
    gaps = [round(later - earlier, 3) for earlier, later in zip(engine.asked_s, engine.asked_s[1:], strict=False)]
    assert gaps == [1, 2, 4, 8, 16, 30, 30, 30]


def test_as_late_as_it_says_but_not_for_ever() -> None:
    engine = Engine(
        Spoken(503, b"{}", b"Retry-After: 12\r\n"), Spoken(503, b"{}", b"retry-after: 9999\r\n"), Spoken(200, b"{}")
    )
    asked(engine)
    assert engine.asked_s == [0, 12, 42]


def test_what_says_that_it_is_no_use() -> None:
    hopeless = Spoken(503, b"{}", b"content-type: application/json\r\nx-should-retry: false\r\n")
    engine = Engine(hopeless)
    assert asked(engine) == hopeless
    assert len(engine.asked_s) == 1


@pytest.mark.parametrize("status", [500, 502, 504])
def test_what_fails_is_asked_three_times(status: int) -> None:
    engine = Engine(Spoken(status, b"{}"))
    assert asked(engine) == Spoken(status, b"{}")
    assert len(engine.asked_s) == MOST_ATTEMPTS == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CutOff(), "engine_unavailable"),
        (EngineLost("gone"), "engine_unavailable"),
        (NotFound("no such endpoint"), "not_found"),
        (ZeroDivisionError("a bug"), "server_error"),
    ],
)
def test_no_answer_at_all(error: Exception, code: str) -> None:
    engine = Engine(error)
    failure = asked(engine)
    assert isinstance(failure, Failure)
    assert failure.code == code
    assert "bug" not in failure.message
    assert len(engine.asked_s) == MOST_ATTEMPTS


def test_broken_once_and_well_again() -> None:
    assert asked(Engine(CutOff(), BUSY, Spoken(200, b"{}"))) == Spoken(200, b"{}")


def test_headers_are_found_by_name() -> None:
    answer = Spoken(200, b"", b"Content-Type: a/b\r\nRETRY-AFTER:5\r\n")
    assert header(answer, b"retry-after") == b"5"
    assert header(answer, b"content-type") == b"a/b"
    assert header(answer, b"after") is None
