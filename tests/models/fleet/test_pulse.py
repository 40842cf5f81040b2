"""How long an engine may be silent, on a clock of the test's."""

from __future__ import annotations

import asyncio
import math

import pytest

from models.fleet import pulse as pulse_module
from models.fleet.pulse import Pulse

pytestmark = pytest.mark.anyio


class Clock:
    """Goes on by ``step_s`` whenever somebody looks at it."""

    def __init__(self, step_s):
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self):
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(pulse_module, "BEAT_EVERY_S", 0.0)
    real = asyncio.wait

    async def wait(tasks, timeout):
        return await real(tasks, timeout=0.0)

    monkeypatch.setattr(asyncio, "wait", wait)


class Engine:
    """Answers ``beats`` times and then no more."""

    def __init__(self, beats):
        self.beats = beats

    async def beat(self):
        self.beats -= 1
        if self.beats < 0:
            await asyncio.Event().wait()


def listening(engine, patience_s, step_s=0.5):
    worries = []
    return Pulse(engine.beat, lambda: patience_s, lambda: worries.append(True), clock=Clock(step_s)), worries


async def test_silence_beyond_patience_is_the_end_and_was_worried_about_before():
    pulse, worries = listening(Engine(3), patience_s=15.0)
    assert await asyncio.wait_for(pulse.stopped(), 5) == 15.0
    assert worries == [True]


async def test_an_engine_that_answers_is_never_given_up():
    pulse, worries = listening(Engine(10_000), patience_s=15.0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pulse.stopped(), 0.05)
    assert worries == []


async def test_a_loading_engine_may_be_silent_for_as_long_as_it_likes():
    pulse, worries = listening(Engine(0), patience_s=math.inf)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pulse.stopped(), 0.05)
    assert worries == []


async def test_a_night_of_suspension_is_but_a_moment_of_silence():
    """The clock jumps by an hour at each look, and the engine is given as many looks all the same."""
    looks = 0

    def patience_s():
        nonlocal looks
        looks += 1
        return 15.0

    pulse = Pulse(Engine(0).beat, patience_s, lambda: None, clock=Clock(3600.0))
    assert await asyncio.wait_for(pulse.stopped(), 5) == 15.0
    assert looks == 15


async def test_an_engine_that_is_gone_ends_the_listening_with_its_reason():
    async def gone():
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await Pulse(gone, lambda: 15.0, lambda: None).stopped()
