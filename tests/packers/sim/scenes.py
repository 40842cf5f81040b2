"""Small worlds and hand-written traffic for the simulator's tests. Sizes in units of GB, times in seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from packers.sim import SimOptions, SimResult, SimWorld, StartUp, Trace, simulate
from packers.types import Footprint, Gpu, GpuId, Model, ModelId, Node, NodeId

GB = 10**9
FOREVER = float("inf")
START = StartUp.constant(10.0, 1.0)


def model(name: str, gb: int, *, residue: int = 0, ttl_s: float = FOREVER, **more: object) -> Model:
    footprint = Footprint(gb * GB, 0, 0, residue_bytes=residue * GB, host_bytes=gb * GB)
    return Model(ModelId(name), footprint, ttl_s=ttl_s, **more)  # type: ignore[arg-type]


def world(
    models: Sequence[Model],
    gpus: Sequence[int] = (10,),
    host: int = 1000,
    startup: StartUp = START,
    link: float = 0.0,
    **more: object,
) -> SimWorld:
    """One node "n" with GPUs "n/0", "n/1" ... of so many GB."""
    node = NodeId("n")
    return SimWorld(
        gpus=tuple(Gpu(GpuId(f"n/{index}"), node, index, gb * GB) for index, gb in enumerate(gpus)),
        nodes=(Node(node, host * GB, link_bytes_per_s=link * GB),),
        models=tuple(models),
        startup=startup,
        **more,  # type: ignore[arg-type]
    )


def requests(*calls: tuple[float, str] | tuple[float, str, float]) -> Trace:
    """(when, model, how long it is worked on: 1 s unless told)."""
    names = sorted({call[1] for call in calls})
    return Trace.of(
        names,
        [call[0] for call in calls],
        [names.index(call[1]) for call in calls],
        [call[2] if len(call) > 2 else 1.0 for call in calls],
    )


def play(trace: Trace, there: SimWorld, **options: object) -> SimResult:
    return simulate(trace, there, options=SimOptions(keep_waits=True, **options))  # type: ignore[arg-type]


def waits(result: SimResult) -> list[float]:
    assert result.waits_s is not None
    return [round(float(one), 6) for one in result.waits_s]


def deeds(result: SimResult) -> list[str]:
    """ "10.0 start a-1", one for each action, in order."""
    return [f"{one.at_s:g} {one.action} {one.replica or one.model}" for one in result.decisions.last]


def seconds(hours: float) -> float:
    return round(hours * 3600, 6)


def poisson(names: Sequence[str], rate_per_s: float, count: int, seed: int, service_s: float = 1.0) -> Trace:
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.exponential(1 / rate_per_s, count))
    return Trace.of(names, at_s, rng.integers(0, len(names), count), rng.exponential(service_s, count) + 0.001)
