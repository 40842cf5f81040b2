"""What the simulator makes of the same minute: the same world, policies and requests, at the measured costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from loadtests.replay.calibration import Costs, service, startup
from loadtests.replay.minute import Minute
from models.control.recording import Step
from packers.load import NO_LOAD, NO_MEMORY
from packers.sim import SimOptions, SimResult, SimWorld, simulate
from packers.types import Demand
from packers.usage import UNUSED

TICK_S = 0.1  # how often production decides when nothing happens
SLOTS = 256  # of each engine, as its card leaves it


def predict(first: Step, minute: Minute, costs: Mapping[str, Costs], weights_bytes: Mapping[str, int]) -> SimResult:
    """``first``: the controller's last decision before the minute began, with every model stopped.

    Raises SimError, TraceError.
    """
    snapshot = first.snapshot
    models = tuple(
        replace(model, demand=Demand(), usage=UNUSED, load=NO_LOAD, scale_memory=NO_MEMORY, retry_at_s=0.0)
        for model in snapshot.models
    )
    world = SimWorld(
        gpus=snapshot.gpus,
        nodes=snapshot.nodes,
        models=models,
        pools=snapshot.pools,
        startup=startup(costs, weights_bytes),
        service=service(costs),
    )
    options = SimOptions(slots=SLOTS, tick_s=TICK_S, report_s=TICK_S, keep_waits=True)
    return simulate(minute.trace, world, first.policies, options)
