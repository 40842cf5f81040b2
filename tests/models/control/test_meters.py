"""What the controller counts for /metrics."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.control.meters import BOUNDS_S, Meters
from packers.types import ModelId

A, B = ModelId("a"), ModelId("b")


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_counts_are_cumulated_and_end_with_all(spans_s: list[float]) -> None:
    meters = Meters()
    for span_s in spans_s:
        meters.took(A, "start", "disk", span_s)
    found = meters.record({}).transitions
    if not spans_s:
        assert found == ()
        return
    (meter,) = found
    assert meter.counts == (*(sum(span_s <= bound_s for span_s in spans_s) for bound_s in BOUNDS_S), len(spans_s))
    assert abs(meter.sum_s - sum(spans_s)) < 1e-6


def test_transitions_are_told_apart_by_model_kind_and_tier() -> None:
    meters = Meters()
    meters.took(B, "wake", "host", 0.1)
    meters.took(A, "start", "disk", 0.1)
    meters.took(A, "start", "page_cache", 0.1)
    found = [(one.model_id, one.transition, one.tier) for one in meters.record({}).transitions]
    assert found == [("a", "start", "disk"), ("a", "start", "page_cache"), ("b", "wake", "host")]


def test_quarantines_outlive_a_controller_and_add_up() -> None:
    old, new = Meters(), Meters()
    old.quarantine(A)
    new.quarantine(A)
    new.recall(old.remembered())
    new.lose(B)
    record = new.record({B: 7})
    assert (record.quarantined, record.lost, record.excess_bytes) == ({"a": 2}, {"b": 1}, {"b": 7})


def test_a_model_that_left_the_catalog_leaves_no_label() -> None:
    meters = Meters()
    meters.took(A, "wake", "host", 0.1)
    meters.quarantine(A)
    meters.lose(A)
    meters.forget(A)
    assert meters.record({}) == Meters().record({})


def test_estimates_are_held_against_what_things_took_by_model_and_transition() -> None:
    meters = Meters()
    meters.estimated(B, "start", 1.0, 1.3)
    meters.estimated(A, "wake", 0.5, 0.1)
    meters.estimated(A, "wake", 0.1, 0.1)
    wake, start = meters.record({}).estimates
    assert (wake.model_id, wake.transition, wake.counts[0], wake.counts[-1]) == ("a", "wake", 1, 2)
    assert abs(wake.sum_s - 0.4) < 1e-9
    assert (start.estimated_s, start.took_s) == (1.0, 1.3)
    meters.forget(A)
    assert [one.model_id for one in meters.record({}).estimates] == ["b"]
