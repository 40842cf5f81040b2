"""Models that autoscalers keep, on too few GPUs for all of them."""

from __future__ import annotations

import pytest

from packers.autoscale.registry import AUTOSCALING
from packers.decide import Policies
from packers.sim import SimOptions, simulate
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
