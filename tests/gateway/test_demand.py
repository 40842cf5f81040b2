"""What a worker tells the controller, and when."""

from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.demand import ALWAYS_EVERY_S, CHANGED_EVERY_S, MODELS_AT_THAT_PACE, Demand, Pace
from packers.types import ModelId, ReplicaId

M, N = ModelId("m"), ModelId("n")
R = ReplicaId("m-1")


def told(demand: Demand, now_s: float = 0.0) -> Demand:
    """As after a report."""
    demand.pace.sent(now_s)
    return demand


def urgent(demand: Demand) -> bool:
    return demand.pace.urgent


def test_without_news_a_report_is_due_every_second() -> None:
    assert Pace(sent_s=10.0).due_s() == 10.0 + ALWAYS_EVERY_S


def test_a_change_is_told_within_a_tenth_of_a_second() -> None:
    demand = told(Demand(), 10.0)
    demand.arrived(M, 0.0)
    assert demand.pace.due_s() == 10.0 + CHANGED_EVERY_S


def test_the_first_report_is_due_at_once() -> None:
    assert Pace().due_s() == -math.inf


def test_the_first_held_request_of_a_model_is_told_at_once_the_second_is_not() -> None:
    demand = told(Demand())
    demand.held(M, 1, 100.0)
    assert urgent(demand)
    told(demand).held(M, 2, 101.0)
    assert not urgent(demand)
    told(demand).held(N, 3, 101.0)
    assert urgent(demand), "another model's first one"


def test_nobody_waiting_any_more_is_told_at_once() -> None:
    demand = told(Demand())
    demand.held(M, 1, 100.0)
    demand.held(M, 2, 100.0)
    told(demand).unheld(M, 1)
    assert not urgent(demand)
    demand.unheld(M, 2)
    assert urgent(demand)


def test_a_newer_table_in_force_is_told_at_once() -> None:
    demand = told(Demand())
    demand.routes_applied()
    assert urgent(demand)


def test_the_last_request_on_a_draining_replica_is_told_at_once() -> None:
    demand = Demand()
    demand.began(M, R)
    demand.began(M, R)
    told(demand).ended(M, R, draining=True, now_unix_s=5.0)
    assert not urgent(demand), "one is still there"
    demand.ended(M, R, draining=True, now_unix_s=6.0)
    assert urgent(demand)


def test_the_last_request_on_a_serving_replica_can_wait() -> None:
    demand = Demand()
    demand.began(M, R)
    told(demand).ended(M, R, draining=False, now_unix_s=5.0)
    assert not urgent(demand)
    assert demand.pace.changed


def test_whoever_publishes_is_woken_once_per_report_not_once_per_request() -> None:
    woken: list[int] = []
    demand = Demand(on_change=lambda: woken.append(1))
    for _ in range(100):
        demand.arrived(M, 0.0)
    assert len(woken) == 1
    demand.held(M, 1, 0.0)
    assert len(woken) == 2, "it became urgent"
    demand.held(N, 2, 0.0)
    assert len(woken) == 2, "it was urgent already"


def test_a_report_says_what_is_in_flight_held_and_since_when() -> None:
    demand = Demand()
    demand.arrived(M, 100.0)
    demand.arrived(N, 101.0)
    demand.began(M, R)
    demand.held(N, 1, 101.0)
    demand.held(N, 2, 102.0)
    report = demand.report("w", 7, 103.0)
    assert (report.worker, report.routes_version, report.sent_unix_s) == ("w", 7, 103.0)
    assert report.replicas == {R: 1}
    assert (report.models[M].in_flight, report.models[M].held, report.models[M].oldest_held_unix_s) == (1, 0, None)
    assert (report.models[N].in_flight, report.models[N].held, report.models[N].oldest_held_unix_s) == (0, 2, 101.0)
    assert report.models[M].last_request_unix_s == 100.0


def test_a_model_was_last_used_when_its_last_answer_ended() -> None:
    demand = Demand()
    demand.arrived(M, 100.0)
    demand.began(M, R)
    demand.ended(M, R, draining=False, now_unix_s=160.0)
    report = demand.report("w", 1, 200.0)
    assert report.models[M].last_request_unix_s == 160.0
    assert report.replicas == {}, "an idle replica is not listed"


def test_totals_are_for_the_metrics() -> None:
    demand = Demand()
    demand.arrived(M, 0.0)
    demand.began(M, R)
    demand.held(M, 1, 0.0)
    assert demand.totals() == {M: (1, 1)}


def test_counters_only_grow_and_say_since_when_they_count() -> None:
    demand = Demand()
    assert demand.report("w", 1, 99.0).since_unix_s == 99.0, "nothing was counted before now"
    for second in range(3):
        demand.arrived(M, 100.0 + second)
        demand.began(M, R)
        demand.ended(M, R, draining=False, now_unix_s=101.0 + second, busy_s=0.5)
    demand.arrived(N, 110.0)
    report = demand.report("w", 1, 120.0)
    assert report.since_unix_s == 100.0
    assert (report.models[M].arrived, report.models[M].finished, report.models[M].busy_s) == (3, 3, 1.5)
    assert (report.models[N].arrived, report.models[N].finished, report.models[N].busy_s) == (1, 0, 0.0)


def test_what_did_not_change_is_not_worked_out_again_and_what_did_is() -> None:
    demand = Demand()
    demand.arrived(M, 100.0)
    demand.arrived(N, 100.0)
    first = demand.report("w", 1, 100.0)
    demand.held(M, 1, 101.0)
    second = demand.report("w", 1, 101.0)
    assert second.models[N] is first.models[N]
    assert (first.models[M].held, second.models[M].held) == (0, 1)
    demand.began(M, R)
    demand.unheld(M, 1)
    demand.ended(M, R, draining=False, now_unix_s=102.0)
    third = demand.report("w", 1, 102.0).models[M]
    assert (third.held, third.in_flight, third.finished) == (0, 0, 1)


def test_a_long_report_is_made_less_often_but_news_that_cannot_wait_does_not() -> None:
    demand = Demand()
    for number in range(5 * MODELS_AT_THAT_PACE):
        demand.arrived(ModelId(f"m{number}"), 0.0)
    demand.report("w", 1, 0.0)
    told(demand, 10.0).arrived(M, 0.0)
    assert demand.pace.due_s() == 10.0 + 5 * CHANGED_EVERY_S
    demand.held(M, 1, 10.0)
    assert demand.pace.due_s() == -math.inf


def test_the_first_deadline_of_the_held_ones_is_told() -> None:
    demand = Demand()
    demand.arrived(M, 100.0)
    assert demand.report("w", 1, 100.0).models[M].earliest_deadline_unix_s is None
    demand.held(M, 1, 100.0, 160.0)
    demand.held(M, 2, 101.0, 130.0)
    demand.held(M, 3, 102.0)
    assert demand.report("w", 1, 103.0).models[M].earliest_deadline_unix_s == 130.0
    demand.unheld(M, 2)
    assert demand.report("w", 1, 104.0).models[M].earliest_deadline_unix_s == 160.0


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of events, the counts are those of a plain list of what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.demand = Demand()
        self.flying: list[tuple[ModelId, ReplicaId]] = []
        self.waiting: list[tuple[ModelId, int]] = []
        self.tickets = 0

    @rule(model=st.sampled_from([M, N]), replica=st.sampled_from(["1", "2"]))
    def begin(self, model: ModelId, replica: str) -> None:
        place = (model, ReplicaId(f"{model}-{replica}"))
        self.demand.arrived(model, 0.0)
        self.demand.began(*place)
        self.flying.append(place)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), draining=st.booleans())
    def end(self, data: st.DataObject, draining: bool) -> None:
        model, replica = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.demand.ended(model, replica, draining=draining, now_unix_s=1.0)

    @rule(model=st.sampled_from([M, N]))
    def hold(self, model: ModelId) -> None:
        self.tickets += 1
        self.demand.arrived(model, 0.0)
        self.demand.held(model, self.tickets, float(self.tickets))
        self.waiting.append((model, self.tickets))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def unhold(self, data: st.DataObject) -> None:
        self.demand.unheld(*self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))))

    @invariant()
    def counts_agree(self) -> None:
        report = self.demand.report("w", 1, 0.0)
        for model in (M, N):
            shown = report.models.get(model)
            held = [ticket for name, ticket in self.waiting if name == model]
            assert (shown.in_flight if shown else 0) == sum(name == model for name, _ in self.flying)
            assert (shown.held if shown else 0) == len(held)
            assert (shown.oldest_held_unix_s if shown else None) == (float(min(held)) if held else None)
        assert sum(report.replicas.values()) == len(self.flying)
        assert all(report.replicas.values())


TestAnyOrder = AnyOrder.TestCase
