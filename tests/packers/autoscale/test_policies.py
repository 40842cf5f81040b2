"""What holds for every policy of the registry, whatever it is asked."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.autoscale.context import ScaleContext
from packers.autoscale.registry import AUTOSCALING
from packers.autoscale.wrap import bounded, delayed, stepped
from packers.load import Aim, Load, Reserve, ScaleMemory
from tests.packers.autoscale.moments import moment

POLICIES = sorted(AUTOSCALING)

small = st.integers(0, 40)
seconds = st.floats(0, 1e5)
reserves = st.builds(Reserve, idle=st.integers(0, 9), busy=st.integers(9, 20), growth=st.floats(1, 8), saved=seconds)
loads = st.builds(
    Load,
    arrivals=small,
    last_s=st.floats(0, 1000),
    concurrency_6s=st.floats(0, 500),
    concurrency_60s=st.floats(0, 500),
    service_s=st.floats(0.001, 500),
    offered=st.floats(0, 300),
    peak_offered=st.floats(0, 300),
    gaps=st.tuples(*[st.floats(0, 50)] * 24),
    reserve=reserves,
    expected=st.none() | st.floats(0, 200),
)
counts = st.lists(st.tuples(st.floats(900, 1000), small), max_size=3).map(tuple)
memories = st.builds(
    ScaleMemory,
    count=small,
    recent=counts,
    asked=counts,
    panic_s=st.none() | st.floats(0, 1000),
    panic_count=small,
    zero_s=st.none() | st.floats(0, 1000),
)
contexts = st.builds(
    moment,
    ready=small,
    starting=small,
    asleep=small,
    in_flight=st.integers(0, 400),
    held=st.integers(0, 400),
    deadline_s=st.none() | st.floats(900, 1200),
    operator_wake=st.booleans(),
    load=loads,
    memory=memories,
    aim=st.builds(Aim, slots=st.integers(1, 64), start_s=st.floats(0, 100), wait_s=st.floats(0.01, 30)),
    keep_price=st.floats(0, 100),
    min_replicas=st.integers(0, 5),
    max_replicas=st.integers(0, 60),
)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=150, deadline=None)
@given(context=contexts)
def test_within_the_bounds_and_the_same_again(name: str, context: ScaleContext) -> None:
    scale = AUTOSCALING[name](context)
    least = context.model.min_replicas
    assert least <= scale.count <= max(least, context.model.max_replicas)
    assert scale.why
    assert AUTOSCALING[name](context) == scale


@pytest.mark.parametrize("name", ["demand", "forecast", "ours"])
@settings(max_examples=150, deadline=None)
@given(context=contexts)
def test_never_below_what_is_in_flight(name: str, context: ScaleContext) -> None:
    """Knative's rule looks at averages: it may be below, and then what is busy stays until it is idle."""
    most = max(context.model.max_replicas, context.model.min_replicas)
    assert AUTOSCALING[name](context).count >= min(context.in_use, most)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=100, deadline=None)
@given(context=contexts)
def test_its_memory_is_plain_data_of_bounded_size(name: str, context: ScaleContext) -> None:
    memory = AUTOSCALING[name](context).memory
    numbers = json.loads(json.dumps(asdict(memory), allow_nan=False))
    for field in ("recent", "asked"):
        numbers[field] = tuple((at_s, count) for at_s, count in numbers[field])
    assert ScaleMemory(**numbers) == memory
    assert len(memory.recent) <= 4


@settings(max_examples=100, deadline=None)
@given(context=contexts, down_s=st.floats(0, 100), up=st.integers(1, 9), down=st.integers(1, 9))
def test_wraps_around_wraps_keep_the_bounds(context: ScaleContext, down_s: float, up: int, down: int) -> None:
    policy = bounded(stepped(delayed(AUTOSCALING["ours"], down_s=down_s), up, down))
    least = context.model.min_replicas
    assert least <= policy(context).count <= max(least, context.model.max_replicas)


@settings(max_examples=100, deadline=None)
@given(context=contexts, more=st.integers(1, 200))
def test_more_held_requests_never_ask_for_fewer_replicas(context: ScaleContext, more: int) -> None:
    from dataclasses import replace

    demand = replace(context.demand, held=context.demand.held + more)
    busier = replace(context, model=replace(context.model, demand=demand))
    assert AUTOSCALING["ours"](busier).count >= AUTOSCALING["ours"](context).count
