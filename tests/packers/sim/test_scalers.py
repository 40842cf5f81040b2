"""Models that autoscalers keep, on too few GPUs for all of them."""

from __future__ import annotations

import pytest

from packers.autoscale.registry import AUTOSCALING
from packers.decide import Policies
from packers.sim import GpuReclaimed, SimOptions, simulate
from packers.types import GpuId
from tests.packers.sim.scenes import deeds, model, requests, waits, world


@pytest.mark.parametrize("scaling", sorted(AUTOSCALING))
def test_one_that_nobody_calls_any_more_keeps_no_waiting_model_from_the_only_gpu(scaling: str) -> None:
    """a is called twice a second for half a minute; a second and a half later somebody calls b."""
    pair = [model(name, 6, max_replicas=2, target_in_flight=2) for name in "ab"]
    calls = requests(*((place / 2, "a") for place in range(60)), (31.5, "b"))
    options = SimOptions(slots=2, keep_waits=True, tick_s=0.1)
    found = simulate(calls, world(pair), Policies(scaling=scaling), options)
    # a had requests left from its start, worked off two at a time until 40 s.
    assert waits(found)[-1] < 40 - 31.5 + 10 + 0.5
    assert deeds(found)[1].endswith("sleep a-1")


def test_surplus_replicas_leave_under_steady_load_although_they_are_never_idle() -> None:
    """Ten a second of 0.9 s each on replicas with room for 64: one is enough, also after a minute of twenty times as
    much. The gateways give every replica its share, so that each has something to do all the time."""
    spike = [60 + place / 200 for place in range(12_000)]
    steady = [place / 10 for place in range(600)] + [120 + place / 10 for place in range(6000)]
    calls = requests(*((at_s, "a", 0.9) for at_s in sorted(steady + spike)))
    there = world([model("a", 6, max_replicas=8, target_in_flight=64)], gpus=(10,) * 8)
    found = simulate(calls, there, Policies(scaling="concurrency"), SimOptions(slots=64, keep_waits=True, tick_s=1.0))
    assert found.failed == 0
    changes = [(one.at_s, {"start": 1, "sleep": -1, "wake": 1}.get(one.action, 0)) for one in found.decisions.last]
    assert sum(change for at_s, change in changes if at_s <= 120) >= 4
    assert sum(change for _, change in changes) == 1


@pytest.mark.parametrize("scaling", sorted(AUTOSCALING))
def test_a_busy_one_on_a_gpu_that_is_taken_away_has_a_substitute_that_stays(scaling: str) -> None:
    calls = requests((0, "a"), *((10.0 + 2 * place, "a", 5.0) for place in range(40)))
    there = world([model("a", 4, target_in_flight=8)], gpus=(10, 10))
    taken = GpuReclaimed(30, GpuId("n/0"), notice_s=30)
    options = SimOptions(slots=8, keep_waits=True, tick_s=0.1, events=(taken,))
    found = simulate(calls, there, Policies(scaling=scaling), options)
    assert waits(found) == [10, *[0] * 40]
    assert (found.failed, found.starts_disk) == (0, 2)
