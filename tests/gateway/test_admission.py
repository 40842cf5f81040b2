"""Who may go where, who waits, and what those who wait are told. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.admission import Admission, Claim, HoldQueue, without_folders
from gateway.demand import Demand
from gateway.errors import HoldQueueFull, HoldTimeout, ModelNotFound, ModelStartFailed, Unavailable
from gateway.routing import Routes
from models.store.records import Failure, ModelRoute, ReplicaRoute, RouteTable
from packers.types import ModelId, ReplicaId
from tests.gateway.virtual_time import EPOCH_UNIX_S, loop_clock, play

M = ModelId("m")


class Desk:
    """An admission with a table that the story changes."""

    def __init__(self, hold_limit: int = 100) -> None:
        self.demand = Demand()
        self.admission = Admission(Routes(), self.demand, HoldQueue(hold_limit), loop_clock())
        self._version = 0

    def table(self, *models: ModelRoute) -> None:
        self._version += 1
        assert self.admission.routes.offer(RouteTable(version=self._version, models=models))
        self.admission.routes_changed()

    def hold(self, name: str = "m", timeout_s: float = 60.0) -> asyncio.Task[Claim]:
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        return asyncio.ensure_future(self.admission.hold(name, deadline_s))

    @property
    def held(self) -> int:
        assert self.admission.queue.count(M) == self.demand.held_count(M)
        return self.demand.held_count(M)


def model(*replicas: str, failure: Failure | None = None, aliases: tuple[str, ...] = ()) -> ModelRoute:
    ready = tuple(ReplicaRoute(replica_id=name, endpoint=f"unix:/{name}", state="ready") for name in replicas)
    return ModelRoute(model_id="m", replicas=ready, failure=failure, aliases=aliases)


def failed(at_s: float, retry_after_s: float = 1.0, *, permanent: bool = False) -> Failure:
    at = EPOCH_UNIX_S + at_s
    return Failure(
        message="The weights are cut off.", code="model_start_failed", at_unix_s=at,
        retry_at_unix_s=at + retry_after_s, permanent=permanent,
    )  # fmt: skip


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def story(coroutine: Coroutine[Any, Any, None]) -> None:
    play(coroutine)


def test_a_ready_replica_is_claimed_and_counted_in_the_same_step() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model("a"))
        claim = desk.admission.admit_now("m")
        assert claim == Claim(M, ReplicaId("a"), "unix:/a")
        assert desk.demand.on_replica(ReplicaId("a")) == 1
        desk.admission.give_back(claim)
        assert desk.demand.on_replica(ReplicaId("a")) == 0

    story(run())


def test_how_long_a_place_was_taken_is_counted_when_it_is_given_back() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model("a"))
        desk.admission.arrived(model("a"))
        claim = desk.admission.admit_now("m")
        assert claim is not None
        await asyncio.sleep(2.5)
        desk.admission.give_back(claim)
        told = desk.demand.report("w", 1, 0.0).models[M]
        assert (told.arrived, told.finished) == (1, 1)
        assert told.busy_s == pytest.approx(2.5)

    story(run())


def test_the_controller_is_told_when_the_first_held_request_gives_up() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        desk.admission.arrived(model())
        waiting = [desk.hold(timeout_s=60.0), desk.hold(timeout_s=7.0)]
        await settle()
        told = desk.demand.report("w", 1, 0.0).models[M]
        assert told.earliest_deadline_unix_s == pytest.approx(EPOCH_UNIX_S + 7.0)
        desk.table(model("a"))
        await asyncio.gather(*waiting)
        assert desk.demand.report("w", 1, 0.0).models[M].earliest_deadline_unix_s is None

    story(run())


def test_requests_spread_over_replicas_by_load() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model("a", "b", "c"))
        for _ in range(9):
            assert desk.admission.admit_now("m")
        assert [desk.demand.on_replica(ReplicaId(name)) for name in "abc"] == [3, 3, 3]

    story(run())


def test_an_unknown_model_is_not_found_but_while_starting_nobody_can_know() -> None:
    async def run() -> None:
        desk = Desk()
        with pytest.raises(Unavailable):
            desk.admission.admit_now("m")
        desk.table(model())
        with pytest.raises(ModelNotFound, match="nope"):
            desk.admission.admit_now("nope")

    story(run())


def test_thirty_held_requests_all_go_when_the_replica_is_ready() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        assert desk.admission.admit_now("m") is None
        waiting = [desk.hold() for _ in range(30)]
        await settle()
        assert desk.held == 30
        desk.table(model("a"))
        claims = await asyncio.gather(*waiting)
        assert {claim.replica for claim in claims} == {"a"}
        assert desk.held == 0
        assert desk.demand.on_replica(ReplicaId("a")) == 30

    story(run())


def test_held_by_an_alias_counts_for_the_model() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model(aliases=("alias",)))
        waiting = desk.hold("alias")
        await settle()
        assert desk.held == 1
        desk.table(model("a"))
        assert (await waiting).model == M

    story(run())


def test_the_first_held_request_is_told_at_once() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        desk.demand.pace.sent(0.0)
        waiting = desk.hold()
        await settle()
        assert desk.demand.pace.urgent
        waiting.cancel()

    story(run())


def test_a_deadline_ends_the_wait() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        waiting = desk.hold(timeout_s=42.0)
        with pytest.raises(HoldTimeout, match=r"42\.0 s") as late:
            await waiting
        assert late.value.status == 503
        assert dict(late.value.headers())["retry-after"]
        assert asyncio.get_running_loop().time() == pytest.approx(42.0)
        assert desk.held == 0

    story(run())


def test_no_time_to_wait_means_an_answer_at_once() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        with pytest.raises(HoldTimeout):
            await desk.hold(timeout_s=0.0)
        assert asyncio.get_running_loop().time() == 0.0

    story(run())


def test_a_full_queue_refuses_the_next_one_and_has_room_again_later() -> None:
    async def run() -> None:
        desk = Desk(hold_limit=2)
        desk.table(model())
        first, second = desk.hold(), desk.hold()
        await settle()
        with pytest.raises(HoldQueueFull) as full:
            await desk.hold()
        assert full.value.status == 429
        assert dict(full.value.headers())["retry-after"]
        first.cancel()
        await settle()
        third = desk.hold()
        await settle()
        assert desk.held == 2
        second.cancel()
        third.cancel()

    story(run())


def test_one_models_queue_does_not_fill_anothers() -> None:
    async def run() -> None:
        desk = Desk(hold_limit=1)
        desk.table(model(), ModelRoute(model_id="n"))
        waiting = [desk.hold("m"), desk.hold("n")]
        await settle()
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()

    story(run())


def test_a_caller_who_leaves_frees_the_place() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        waiting = desk.hold()
        await settle()
        waiting.cancel()
        await settle()
        assert desk.held == 0
        assert desk.demand.in_flight(M) == 0

    story(run())


def test_a_failure_that_happens_while_waiting_is_the_answer() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        waiting = [desk.hold() for _ in range(3)]
        await asyncio.sleep(5)
        desk.table(model(failure=failed(at_s=4.5, retry_after_s=10)))
        for task in waiting:
            with pytest.raises(ModelStartFailed, match="cut off") as told:
                await task
            assert told.value.code == "model_start_failed"
            assert dict(told.value.headers()) == {"retry-after": "10"}  # 9.5 s, in whole seconds
        assert desk.held == 0

    story(run())


def test_a_failure_from_before_the_wait_is_old_news() -> None:
    async def run() -> None:
        desk = Desk()
        await asyncio.sleep(10)
        desk.table(model(failure=failed(at_s=3.0)))
        assert desk.admission.admit_now("m") is None, "its next attempt is due, so the request may wait for it"
        waiting = desk.hold()
        await asyncio.sleep(1)
        assert not waiting.done()
        desk.table(model("a"))
        assert (await waiting).replica == "a"

    story(run())


def test_while_the_next_attempt_is_not_due_new_requests_are_refused_at_once() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model(failure=failed(at_s=0.0, retry_after_s=30)))
        await asyncio.sleep(12)
        with pytest.raises(ModelStartFailed) as told:
            desk.admission.admit_now("m")
        assert dict(told.value.headers()) == {"retry-after": "18"}

    story(run())


def test_a_permanent_failure_is_told_at_once_and_not_to_be_retried() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model(failure=failed(at_s=-100.0, permanent=True)))
        with pytest.raises(ModelStartFailed) as told:
            desk.admission.admit_now("m")
        assert dict(told.value.headers()) == {"x-should-retry": "false"}

    story(run())


def test_a_permanent_failure_also_ends_waits_that_began_after_it() -> None:
    """The request came in while the news was on its way."""

    async def run() -> None:
        desk = Desk()
        desk.table(model())
        await asyncio.sleep(1)
        waiting = desk.hold()
        await settle()
        desk.table(model(failure=failed(at_s=0.9, permanent=True)))
        with pytest.raises(ModelStartFailed):
            await waiting

    story(run())


def test_a_ready_replica_counts_more_than_a_failure() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model("a", failure=failed(at_s=0.0, permanent=True)))
        assert desk.admission.admit_now("m")

    story(run())


def test_a_model_that_is_removed_ends_the_wait() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model())
        waiting = desk.hold()
        await settle()
        desk.table()
        with pytest.raises(ModelNotFound):
            await waiting
        assert desk.held == 0

    story(run())


def test_when_the_only_replica_is_suspect_requests_wait_until_the_suspicion_ends() -> None:
    async def run() -> None:
        desk = Desk()
        desk.table(model("a"))
        desk.admission.routes.suspect(ReplicaId("a"), 0.0)
        assert desk.admission.admit_now("m") is None
        claim = await desk.hold()
        assert claim.replica == "a"
        assert 1.0 <= asyncio.get_running_loop().time() <= 1.5

    story(run())


def test_the_controller_never_sees_a_request_in_neither_place() -> None:
    """From held to in flight: a report taken at any moment counts it."""

    async def run() -> None:
        desk = Desk()
        seen: list[int] = []

        def look() -> None:
            report = desk.demand.report("w", 1, 0.0)
            seen.append(sum(part.held + part.in_flight for part in report.models.values()))

        desk.demand.on_change = look
        desk.table(model())
        desk.admission.arrived(model())
        waiting = desk.hold()
        await settle()
        seen.clear()
        for _ in range(3):
            desk.demand.pace.sent(0.0)
        desk.table(model("a"))
        await waiting
        assert seen
        assert min(seen) >= 1

    story(run())


def test_callers_are_not_told_where_files_lie() -> None:
    told = "Model 'm' cannot be started from /srv/models/tiny: its file weights/model.safetensors is cut off."
    assert without_folders(told) == (
        "Model 'm' cannot be started from tiny: its file weights/model.safetensors is cut off."
    )
    assert without_folders("see hf://org/repo@main and 1/2 GPUs") == "see hf://org/repo@main and 1/2 GPUs"
