"""Moments at which a policy is asked, said briefly."""

from __future__ import annotations

from dataclasses import replace

from packers.autoscale.context import ScaleContext
from packers.load import NO_LOAD, NO_MEMORY, Aim, Load, Reserve, ScaleMemory
from packers.types import Demand, Footprint, Model, ModelId

AIM = Aim(slots=4, start_s=12.0, wait_s=3.5)
MODEL = Model(ModelId("a"), Footprint(1, 0, 0), max_replicas=100, target_in_flight=4)


def moment(
    *,
    now_s: float = 1000.0,
    ready: int = 0,
    starting: int = 0,
    asleep: int = 0,
    ready_in_s: tuple[float, ...] = (),
    in_flight: int = 0,
    held: int = 0,
    deadline_s: float | None = None,
    operator_wake: bool = False,
    load: Load = NO_LOAD,
    memory: ScaleMemory = NO_MEMORY,
    aim: Aim = AIM,
    keep_price: float = 1.0,
    min_replicas: int = 0,
    max_replicas: int = 100,
) -> ScaleContext:
    demand = Demand(in_flight, held, 0.0, operator_wake, deadline_s)
    model = replace(
        MODEL,
        demand=demand,
        load=load,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        target_in_flight=aim.slots,
    )
    return ScaleContext(
        now_s,
        model,
        ready,
        starting,
        asleep,
        aim.start_s,
        memory,
        ready_in_s=ready_in_s,
        aim=aim,
        keep_price=keep_price,
    )


def load_of(
    *,
    offered: float = 0.0,
    service_s: float = 1.0,
    silent_s: float = 0.0,
    now_s: float = 1000.0,
    gaps: tuple[float, ...] = (),
    reserve: Reserve | None = None,
    stable: float = 0.0,
    panic: float = 0.0,
    expected: float | None = None,
) -> Load:
    return Load(
        arrivals=1,
        at_s=now_s,
        last_s=now_s - silent_s,
        concurrency_6s=panic,
        concurrency_60s=stable,
        service_s=service_s,
        offered=offered,
        peak_offered=offered,
        gaps=gaps,
        reserve=reserve or Reserve(),
        expected=expected,
    )
