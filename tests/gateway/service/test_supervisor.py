"""Stories of parts, told on make-believe processes in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from gateway.service.report import Event
from gateway.service.spec import PartSpec
from gateway.service.supervisor import StartFailed, Supervisor
from tests.gateway.service.fake_host import Act, FakeHost
from tests.gateway.virtual_time import play


class Told:
    """The reports of a supervisor."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[tuple[str, str]]:
        return [(event.part, event.text) for event in self.events if event.kind == kind]


def supervise(host: FakeHost, *specs: PartSpec) -> tuple[Supervisor, Told]:
    told = Told()
    return Supervisor(specs, host, told), told


@contextlib.asynccontextmanager
async def started(host: FakeHost, *specs: PartSpec) -> AsyncIterator[tuple[Supervisor, Told]]:
    supervisor, told = supervise(host, *specs)
    await supervisor.start()
    try:
        yield supervisor, told
    finally:
        await supervisor.stop(asyncio.Event())


def test_parts_start_at_once_unless_they_need_another_one() -> None:
    host = FakeHost(redis=Act(ready_s=1), ray=Act(ready_s=3), launcher=Act(ready_s=8), control=Act(ready_s=2))

    async def story() -> float:
        specs = [host.spec(name) for name in ("launcher", "redis", "ray")]
        specs += [host.spec("gateway", needs=("redis",)), host.spec("control", needs=("redis", "ray"))]
        async with started(host, *specs):
            return asyncio.get_running_loop().time()

    ready_after_s = play(story())
    assert [host.when(f"{name} starts") for name in ("launcher", "redis", "ray")] == [0, 0, 0]
    assert host.when("gateway starts") == pytest.approx(1, abs=0.1)
    assert host.when("control starts") == pytest.approx(3, abs=0.1)
    assert ready_after_s == pytest.approx(8, abs=0.1), "the slowest part alone decides"


def test_each_part_says_how_long_it_took() -> None:
    host = FakeHost(redis=Act(ready_s=1), ray=Act(ready_s=3))

    async def story() -> Told:
        async with started(host, host.spec("redis"), host.spec("ray")) as (_, told):
            return told

    events = [event for event in play(story()).events if event.kind == "ready"]
    assert [(event.part, round(event.seconds or 0)) for event in events] == [("redis", 1), ("ray", 3)]


def test_what_is_needed_ends_last() -> None:
    host = FakeHost()

    async def story() -> None:
        specs = (
            host.spec("redis"),
            host.spec("launcher", outlives=("control",)),
            host.spec("gateway", needs=("redis",)),
            host.spec("control", needs=("redis",)),
        )
        async with started(host, *specs):
            host.journal.clear()

    play(story())
    ends = [what for what in host.story if what.endswith("ends")]
    assert set(ends[:2]) == {"gateway ends", "control ends"}
    assert set(ends[2:]) == {"redis ends", "launcher ends"}


def test_a_one_shot_goes_before_what_needs_it_and_its_lines_are_shown() -> None:
    host = FakeHost(models=Act(ends_s=2, says=("tiny-llama made", "tiny-qwen made")))

    async def story() -> tuple[str, Told]:
        async with started(host, host.spec("models", ready=None), host.spec("control", needs=("models",))) as (
            sup,
            told,
        ):
            await asyncio.sleep(100)
            return sup.parts["models"].state, told

    state, told = play(story())
    assert state == "done"
    assert host.starts == {"models": 1, "control": 1}, "a one-shot that is done is not started again"
    assert host.when("control starts") >= 2
    assert told.of("progress") == [("models", "tiny-llama made"), ("models", "tiny-qwen made")]


def test_a_part_that_ends_while_it_starts_fails_the_start_and_nothing_is_left() -> None:
    host = FakeHost(
        ray=Act(ready_s=None, ends_s=2, status=1, says=("no space left on device",)), launcher=Act(ready_s=9)
    )

    async def story() -> StartFailed:
        supervisor, _ = supervise(host, host.spec("redis"), host.spec("ray"), host.spec("launcher"))
        with pytest.raises(StartFailed) as failed:
            await supervisor.start()
        await supervisor.stop(asyncio.Event())
        assert all(part.running is None for part in supervisor.parts.values())
        return failed.value

    failure = play(story())
    assert str(failure) == "ray ended with exit status 1"
    assert failure.lines == ("no space left on device",)
    assert {"redis ends", "launcher ends"} <= set(host.story)


def test_a_one_shot_that_fails_says_why() -> None:
    host = FakeHost(models=Act(ends_s=1, status=1, says=("error: the disk is full",)))

    async def story() -> StartFailed:
        supervisor, _ = supervise(host, host.spec("models", ready=None), host.spec("control", needs=("models",)))
        with pytest.raises(StartFailed) as failed:
            await supervisor.start()
        await supervisor.stop(asyncio.Event())
        return failed.value

    assert play(story()).lines == ("error: the disk is full",)
    assert "control" not in host.starts


def test_a_part_that_never_answers_is_given_up_and_killed() -> None:
    host = FakeHost(ray=Act(ready_s=None, heeds_s=None))

    async def story() -> tuple[str, float]:
        supervisor, _ = supervise(host, host.spec("ray", start_timeout_s=30))
        with pytest.raises(StartFailed) as failed:
            await supervisor.start()
        return str(failed.value), asyncio.get_running_loop().time()

    message, at = play(story())
    assert message == "ray was not ready after 30 s"
    assert at == pytest.approx(30, abs=0.1)
    assert host.story[-1] == "ray ends"


def test_a_program_that_is_not_there_fails_the_start() -> None:
    host = FakeHost(redis=Act(cannot_start="No such file: redis-server"))

    async def story() -> str:
        supervisor, _ = supervise(host, host.spec("redis"))
        with pytest.raises(StartFailed) as failed:
            await supervisor.start()
        return str(failed.value)

    assert play(story()) == "redis could not be started: No such file: redis-server"


def test_a_part_that_dies_is_started_again_and_that_is_said() -> None:
    host = FakeHost(gateway=[Act(ends_s=10, status=-9, says=("out of memory",)), Act()])

    async def story() -> tuple[Told, int, str]:
        async with started(host, host.spec("gateway")) as (supervisor, told):
            await asyncio.sleep(60)
            part = supervisor.parts["gateway"]
            return told, part.restarts.total, part.state

    told, restarts, state = play(story())
    assert (restarts, state, host.starts) == (1, "ready", {"gateway": 2})
    assert told.of("died") == [("gateway", "was ended by SIGKILL; starting it again")]
    assert next(event.lines for event in told.events if event.kind == "died") == ("out of memory",)


def test_a_part_that_keeps_dying_is_started_ever_more_rarely_but_never_given_up() -> None:
    host = FakeHost(gateway=Act(ready_s=0, ends_s=0.1, status=1))

    async def story() -> list[float]:
        async with started(host, host.spec("gateway")):
            await asyncio.sleep(300)
            return [at for at, what in host.journal if what == "gateway starts"]

    starts = play(story())
    waits = [round(later - earlier, 1) for earlier, later in itertools.pairwise(starts)]
    assert waits == sorted(waits)
    assert waits[0] < 1
    assert 30 <= waits[-1] < 31
    assert len(starts) > 10


def test_a_later_start_that_fails_is_tried_again() -> None:
    broken = Act(ready_s=None, ends_s=1, status=1, says=("address in use",))
    host = FakeHost(gateway=[Act(ends_s=5), broken, broken, Act()])

    async def story() -> tuple[Told, str]:
        async with started(host, host.spec("gateway")) as (supervisor, told):
            await asyncio.sleep(60)
            return told, supervisor.parts["gateway"].state

    told, state = play(story())
    assert state == "ready"
    assert [text for _, text in told.of("died")][1:] == [
        "ended with exit status 1; trying again in 0.5 s",
        "ended with exit status 1; trying again in 1 s",
    ]


def test_what_follows_a_part_is_killed_and_started_anew_with_it() -> None:
    host = FakeHost(ray=[Act(ready_s=2, ends_s=20, status=1), Act(ready_s=2)], control=Act(ready_s=1, heeds_s=9))

    async def story() -> dict[str, str]:
        specs = (host.spec("ray", takes_all=True), host.spec("control", needs=("ray",), follows=("ray",)))
        async with started(host, *specs, host.spec("gateway")) as (supervisor, _):
            await asyncio.sleep(30)
            return {name: part.state for name, part in supervisor.parts.items()}

    states = play(story())
    assert set(states.values()) == {"ready"}
    assert host.starts == {"ray": 2, "control": 2, "gateway": 1}
    after = host.story[host.story.index("ray ends") :]
    assert after.index("ray leaves nothing") < after.index("ray starts") < after.index("control starts")
    assert after.index("control gets SIGKILL") < after.index("control starts")


def test_a_part_that_does_not_heed_is_killed_after_its_grace() -> None:
    host = FakeHost(gateway=Act(heeds_s=None))

    async def story() -> None:
        async with started(host, host.spec("gateway", stop_grace_s=7)):
            host.journal.clear()

    play(story())
    assert host.story == ["gateway gets SIGTERM", "gateway gets SIGKILL", "gateway ends"]
    assert host.when("gateway gets SIGKILL") - host.when("gateway gets SIGTERM") == pytest.approx(7)


def test_in_a_hurry_everybody_is_killed_at_once() -> None:
    host = FakeHost(gateway=Act(heeds_s=None), redis=Act(heeds_s=None))

    async def story() -> float:
        supervisor, _ = supervise(host, host.spec("redis"), host.spec("gateway", needs=("redis",), stop_grace_s=60))
        await supervisor.start()
        began = asyncio.get_running_loop().time()
        hurry = asyncio.Event()
        asyncio.get_running_loop().call_later(3, hurry.set)
        await supervisor.stop(hurry)
        return asyncio.get_running_loop().time() - began

    assert play(story()) == pytest.approx(3, abs=0.1), (
        "the wait for the first part was cut short, the second was not asked"
    )
    assert "redis gets SIGTERM" not in host.story


def test_stopping_in_the_middle_of_a_start_leaves_nothing() -> None:
    host = FakeHost(redis=Act(ready_s=1), launcher=Act(ready_s=10))

    async def story() -> Supervisor:
        supervisor, _ = supervise(
            host, host.spec("redis"), host.spec("launcher"), host.spec("late", needs=("launcher",))
        )
        starting = asyncio.create_task(supervisor.start())
        await asyncio.sleep(5)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await supervisor.stop(asyncio.Event())
        await asyncio.sleep(60)
        return supervisor

    supervisor = play(story())
    assert all(part.running is None for part in supervisor.parts.values())
    assert "late" not in host.starts
    assert {"redis ends", "launcher ends"} <= set(host.story)


def test_stopping_while_a_part_waits_to_be_started_again_starts_it_no_more() -> None:
    host = FakeHost(gateway=Act(ready_s=0, ends_s=1))

    async def story() -> int:
        supervisor, _ = supervise(host, host.spec("gateway"))
        await supervisor.start()
        await asyncio.sleep(1.2)
        await supervisor.stop(asyncio.Event())
        starts = host.starts["gateway"]
        await asyncio.sleep(100)
        return host.starts["gateway"] - starts

    assert play(story()) == 0


def test_every_change_is_announced_for_the_record() -> None:
    host = FakeHost()
    seen: list[str] = []

    async def story() -> None:
        supervisor = Supervisor(
            (host.spec("gateway"),), host, Told(), lambda: seen.append(supervisor.parts["gateway"].state)
        )
        await supervisor.start()
        await supervisor.stop(asyncio.Event())

    play(story())
    assert seen == ["starting", "ready", "stopped"]
