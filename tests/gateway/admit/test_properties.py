"""Whatever happens in whatever order: never over the slots, nobody forgotten, nobody told twice, all counts agree."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.admit import Outcome
from gateway.admit.retries import ALWAYS, MOST_PART
from models.store.records import ModelRoute, ReplicaRoute
from packers.types import ModelId, ReplicaId
from tests.gateway.admit.scene import Request, Scene, failed, replica

MODELS = ("m", "n")
HOLD_LIMIT = 6


def replicas_of(name: str) -> st.SearchStrategy[tuple[ReplicaRoute, ...]]:
    each = st.builds(
        lambda number, state, slots, revision: replica(f"{name}-{number}", state=state, slots=slots, revision=revision),
        st.integers(0, 3),
        st.sampled_from(["ready", "ready", "draining"]),
        st.integers(0, 3),
        st.sampled_from(["", "r1", "r2"]),
    )
    return st.lists(each, max_size=3, unique_by=lambda one: one.replica_id).map(tuple)


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(hold_limit=HOLD_LIMIT)
        self.asked: list[Request] = []  # those that still want something
        self.limits: dict[str, int] = {}
        self.highest: dict[str, int] = {}  # of each replica, the highest limit while what is there came
        self.routes: dict[str, ModelRoute] = {}

    # -- what happens ----------------------------------------------------------------------------------------------

    @rule(
        m=replicas_of("m"),
        n=replicas_of("n"),
        gone=st.booleans(),
        fails=st.booleans(),
        estimate=st.sampled_from([None, 5.0, 500.0]),
        traffic=st.sampled_from([{}, {"r1": 1.0, "r2": 3.0}]),
    )
    def table(
        self,
        m: tuple[ReplicaRoute, ...],
        n: tuple[ReplicaRoute, ...],
        gone: bool,
        fails: bool,
        estimate: float | None,
        traffic: dict[str, float],
    ) -> None:
        failure = failed(self.scene.now_s, 1.0) if fails else None
        routes = [
            ModelRoute(model_id=name, replicas=there, failure=failure, start_estimate_s=estimate, traffic=traffic)
            for name, there in (("m", m), ("n", () if gone else n))
        ]
        self.routes = {route.model_id: route for route in routes[: 1 if gone else 2]}
        self.limits = {one.replica_id: one.slots for route in self.routes.values() for one in route.replicas}
        for name, limit in self.limits.items():
            unlimited = limit == 0 or self.highest.get(name) == 0
            self.highest[name] = 0 if unlimited else max(limit, self.highest.get(name, 1))
        self.scene.table(*self.routes.values())
        self.scene.turn()

    @rule(
        name=st.sampled_from(MODELS),
        tenant=st.sampled_from("ab"),
        priority=st.sampled_from([0, 0, 5]),
        timeout_s=st.sampled_from([0.0, 1.0, 60.0]),
        session=st.integers(0, 3),
        prefix=st.integers(0, 3),
    )
    def ask(self, name: str, tenant: str, priority: int, timeout_s: float, session: int, prefix: int) -> None:
        one = self.scene.ask(
            name, tenant, timeout_s=timeout_s, priority=priority, session=session, prefix=prefix, tokens=1 + prefix
        )
        if one.error is None:
            self.asked.append(one)

    def flying(self) -> list[Request]:
        return [one for one in self.asked if one.claim is not None]

    @precondition(lambda self: self.flying())
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), twice=st.booleans())
    def end(self, data: st.DataObject, outcome: Outcome, twice: bool) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        for _ in range(1 + twice):
            self.scene.end(one, outcome)
        self.asked.remove(one)

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        assert one.claim is not None
        if not self.scene.admission.may_retry(one.claim, len(one.inquiry.avoid)):
            self.scene.end(one, Outcome.LOST)
            self.asked.remove(one)
            return
        self.scene.lose(one)
        if one.error is not None:
            self.asked.remove(one)

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        assert one.claim is not None
        self.scene.admission.answered(one.claim)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.asked))
        if one.claim is None:
            self.scene.admission.leave(one)
            one.held = False
            self.asked.remove(one)

    @rule(name=st.sampled_from([f"{name}-{number}" for name in MODELS for number in range(4)]), back=st.booleans())
    def probe(self, name: str, back: bool) -> None:
        if back:
            self.scene.admission.let_back(ReplicaId(name))
        else:
            self.scene.admission.eject(ReplicaId(name))

    @rule(seconds=st.sampled_from([0.0, 0.3, 2.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.scene.wait(seconds)

    @rule()
    def turn(self) -> None:
        self.scene.turn()

    # -- what holds ------------------------------------------------------------------------------------------------

    @invariant()
    def the_told_are_told_once(self) -> None:
        for one in self.asked:
            assert one.told <= 1
        self.asked = [one for one in self.asked if one.error is None]

    @invariant()
    def no_replica_is_over_its_slots(self) -> None:
        for name, limit in self.highest.items():
            flying = self.scene.flying(name)
            assert limit == 0 or flying <= limit
            if not flying and name in self.limits:
                self.highest[name] = self.limits[name]

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Held ones are in a queue, or their place or refusal is on its way to them."""
        admission = self.scene.admission
        waiting = {id(one) for one in self.asked if one.waits}
        assert waiting == set(admission._tickets)
        for ticket in admission._tickets.values():
            decided = ticket.claim is not None or ticket.error is not None
            queued = ticket in ticket.desk.queue.tickets()
            budgeting = ticket.id in ticket.desk.retries.waiting
            assert decided + queued + budgeting == 1
            assert queued + budgeting == 0 or ticket.desk is admission._waiting.get(ticket.desk.model)

    @invariant()
    def nobody_waits_beside_a_free_place(self) -> None:
        for desk in self.scene.admission._desks.values():
            assert not (desk.queue.count and desk.has_room)
            assert desk.queue.count <= HOLD_LIMIT + len([one for one in self.asked if one.inquiry.avoid])

    @invariant()
    def retries_are_few(self) -> None:
        for desk in self.scene.admission._desks.values():
            going = [one for one in self.flying() if one.claim and one.claim.retry and one.claim.desk is desk]
            queued = [ticket for ticket in desk.queue.tickets() if ticket.budgeted]
            untold = [
                ticket.claim
                for ticket in self.scene.admission._tickets.values()
                if ticket.claim is not None and ticket.claim.retry and ticket.desk is desk
            ]
            assert desk.retries.going == len(going) + len(queued) + len(untold)
            assert desk.retries.going <= max(ALWAYS, MOST_PART * (len(self.asked) + 64))

    @invariant()
    def counts_agree(self) -> None:
        admission, demand = self.scene.admission, self.scene.demand
        placed = [one.claim for one in self.flying()] + [
            ticket.claim for ticket in admission._tickets.values() if ticket.claim is not None
        ]
        assert admission.in_flight == len(placed)
        for name in MODELS:
            model = ModelId(name)
            assert demand.in_flight(model) == sum(claim.model == model for claim in placed if claim)
            undecided = [
                ticket
                for ticket in admission._tickets.values()
                if ticket.desk.model == model and ticket.claim is None and ticket.error is None
            ]
            assert demand.held_count(model) == len(undecided) + (model in admission._returning)
        for desk in admission._desks.values():
            for target in desk.targets.values():
                assert target.flying == demand.on_replica(target.id)
                assert target.tokens >= target.flying
                assert target.flying or not target.tokens
        assert set(admission.rotation) <= set(admission._desk_of)

    def teardown(self) -> None:
        """Everything can be brought to an end: with a replica for all, everybody gets through."""
        self.scene.turn()
        self.the_told_are_told_once()
        self.scene.table(*[ModelRoute(model_id=name, replicas=(replica(f"{name}-new"),)) for name in MODELS])
        self.scene.wait(0.2)
        self.the_told_are_told_once()
        for one in self.flying():
            self.scene.end(one)
            self.asked.remove(one)
            self.scene.turn()
        self.scene.wait(60.2)
        for one in self.flying():
            self.scene.end(one)
        self.the_told_are_told_once()
        assert not [one for one in self.asked if one.waits]
        assert self.scene.admission.in_flight == 0
        assert self.scene.demand.report("w", 1, 0.0).replicas == {}


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
