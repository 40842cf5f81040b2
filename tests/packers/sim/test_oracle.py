from __future__ import annotations

from math import inf

from packers.sim import NextUse, SimOptions, simulate
from packers.types import ModelId
from tests.packers.sim.scenes import model, requests, world

A, B = ModelId("a"), ModelId("b")


def test_when_a_model_is_wanted_next() -> None:
    next_use = NextUse(requests((1, "a"), (5, "b"), (7, "a")))
    assert next_use(A, 0.0) == 1
    assert next_use(A, 1.0) == 7
    assert next_use(A, 7.0) == inf
    assert next_use(B, 1.0) == 5
    assert next_use(ModelId("c"), 0.0) == inf


def test_an_oracle_is_told_the_time_before_every_decision() -> None:
    trace = requests((1, "a"), (30, "b"), (60, "a"))
    next_use, seen = NextUse(trace), []
    found = simulate(
        trace,
        world([model("a", 6), model("b", 6)]),
        options=SimOptions(before_decide=lambda now_s: seen.append((now_s, next_use(A, now_s)))),
    )
    assert len(seen) == found.decisions.count
    assert (1.0, 60.0) in seen
    assert (60.0, inf) in seen
