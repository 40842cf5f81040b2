"""From what was counted to a SimResult."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from packers.sim.front import Lane
from packers.sim.meter import Meter
from packers.sim.options import SimOptions
from packers.sim.result import ModelResult, SimResult, Waits
from packers.sim.trace import Floats, Trace
from packers.sim.world import SimWorld
from packers.types import ModelId


def summary(
    trace: Trace,
    world: SimWorld,
    options: SimOptions,
    lanes: Mapping[ModelId, Lane],
    waits_s: Floats,
    meter: Meter,
    end_s: float,
) -> SimResult:
    total = len(trace)
    timed_out = sum(lane.timed_out for lane in lanes.values())
    refused = sum(lane.refused for lane in lanes.values())
    failed = sum(lane.failed for lane in lanes.values())
    return SimResult(
        seed=options.seed,
        end_s=end_s,
        requests=total,
        served=total - timed_out - refused - failed,
        timed_out=timed_out,
        refused=refused,
        failed=failed,
        delayed=sum(lane.delayed for lane in lanes.values()),
        queued=sum(lane.queued for lane in lanes.values()),
        waits=Waits.of(waits_s[~np.isnan(waits_s)]),
        starts_disk=meter.starts_disk.total(),
        starts_host=meter.starts_host.total(),
        failed_starts=meter.failed_starts,
        load_s=sum(meter.load_s[model] for model in sorted(meter.load_s)),
        evictions=meter.evictions.total(),
        moves=meter.moves,
        sleeps=meter.actions["sleep"],
        stops=meter.actions["stop"],
        resizes=meter.actions["resize"],
        hours=meter.hours(end_s),
        pools=meter.pools(world.pools),
        models=_models(trace, lanes, waits_s, meter),
        gpus=meter.rows(),
        memory=meter.timeline.points(),
        decisions=meter.decided(),
        decide_s=meter.decide_s if options.stopwatch else None,
        waits_s=waits_s if options.keep_waits else None,
    )


def _models(trace: Trace, lanes: Mapping[ModelId, Lane], waits_s: Floats, meter: Meter) -> tuple[ModelResult, ...]:
    order = np.argsort(trace.model, kind="stable")
    sizes = np.bincount(trace.model, minlength=len(trace.names))
    by_name = dict(zip(trace.names, np.split(waits_s[order], np.cumsum(sizes)[:-1]), strict=True))
    nothing = np.empty(0)
    found = []
    for model, lane in sorted(lanes.items()):
        all_s = by_name.get(model, nothing)
        waited_s = all_s[~np.isnan(all_s)]
        found.append(
            ModelResult(
                model=model,
                requests=int(all_s.size),
                delayed=lane.delayed,
                timed_out=lane.timed_out,
                refused=lane.refused,
                failed=lane.failed,
                wait_p99_s=float(np.quantile(waited_s, 0.99)) if waited_s.size else 0.0,
                wait_max_s=float(waited_s.max()) if waited_s.size else 0.0,
                starts_disk=meter.starts_disk[model],
                starts_host=meter.starts_host[model],
                load_s=meter.load_s.get(model, 0.0),
                evictions=meter.evictions[model],
            )
        )
    return tuple(found)
