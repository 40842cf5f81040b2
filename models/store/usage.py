"""What is metered: one event per request, the state of GPUs over time, and what is added up of both. Pure.

Times are whole microseconds since 1970 by the steady clock (``models.clock``), durations of GPU time whole nanoseconds,
money whole NANO of the currency (``models.store.tenancy``), memory-time whole KiB x ms. All sums are of whole numbers,
so they are exact.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from models.store.base import Struct


class Run(Struct, frozen=True):
    """A request's time on one replica: from its being sent there until its place was free again."""

    replica: str
    from_us: int
    us: int


class UsageEvent(Struct, frozen=True):
    """One request, as the gateway worker saw it. ``id``: the request id that its caller was told.

    ``estimated``: tokens are counted from what was passed on, as the engine did not come to say (the caller left, the
    engine or the worker died). ``cut``: the worker died with it; the rest is of the last that it noted.
    """

    id: str
    started_us: int
    ended_us: int
    key_id: str
    project: str
    tenant: str
    model: str
    endpoint: str
    status: int
    code: str = ""
    stream: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt's
    completion_tokens: int = 0
    estimated: bool = False
    cut: bool = False
    queue_us: int = 0
    wake_us: int = 0
    runs: tuple[Run, ...] = ()
    price_list: str = ""
    worker: str = ""


class OpenRequest(Struct, frozen=True):
    """A request that is under way: on ``replica`` since ``from_us``; on none while ``replica`` is "" (held again).

    ``runs``: those before, on replicas that it was lost on.
    """

    id: str
    key_id: str
    project: str
    tenant: str
    model: str
    replica: str
    from_us: int
    wake_us: int = 0
    runs: tuple[Run, ...] = ()


def identity_of(request: UsageEvent | OpenRequest) -> str:
    """Of one that has run: callers may name their requests as others do theirs, and all of them alike; when it first
    ran is its own."""
    if request.runs:
        begun_us = request.runs[0].from_us
    else:
        begun_us = request.from_us if isinstance(request, OpenRequest) else request.started_us
    return f"{request.key_id} {request.id} {begun_us}"


class Watermark(Struct, frozen=True):
    """Of one gateway worker: every request that ended before ``until_us`` is in the stream, and every one that was on a
    replica then is in ``open``."""

    worker: str
    until_us: int
    open: tuple[OpenRequest, ...] = ()


class Phase(StrEnum):
    """Of a replica on its GPU: memory is its own in all of them. ``asleep``: only the residue is."""

    STARTING = "starting"
    SERVING = "serving"
    ASLEEP = "asleep"
    STOPPING = "stopping"


class Occupant(Struct, frozen=True):
    replica: str
    model: str
    owner: str  # owned_by of the model's card
    bytes: int
    phase: Phase


class GpuPicture(Struct, frozen=True):
    """All that is on one GPU from ``at_us`` until its next picture. ``present``: false once it is lost or gone, and
    then its time does not count. What no occupant has is free."""

    at_us: int
    gpu: str
    node: str
    pool: str
    memory_bytes: int
    simulated: bool
    present: bool
    occupants: tuple[Occupant, ...] = ()


class Use(StrEnum):
    """What a GPU's time went to. All of it is one of these."""

    BUSY = "busy"  # shared by the requests that ran
    IDLE = "idle"  # resident, and nobody called: asleep and stopping ones, too
    STARTING = "starting"
    FREE = "free"


class SettledEvent(UsageEvent, frozen=True):
    """What its request used of GPUs, and what it costs. ``gpu_ns``: its share of the replicas' shares of their GPUs
    while it ran; ``start_gpu_ns``: of starts that are charged to it. ``lines``: unit -> NANO; ``cost`` is their sum."""

    gpu_ns: int = 0
    memory_kib_ms: int = 0
    start_gpu_ns: int = 0
    lines: dict[str, int] = msgspec.field(default_factory=dict)
    cost: int = 0
    currency: str = ""
    price_version: int = 0


class SecondOfGpus(Struct, frozen=True):
    """Where all GPUs' time went in the second that begins at ``at_unix_s``: the values of GPU_DIMENSIONS and
    nanoseconds, which add up to a second for each GPU that was there all the time."""

    at_unix_s: int
    rows: tuple[tuple[str, str, str, str, str, str, int], ...] = ()


class MeterStatus(Struct, frozen=True):
    """What the meter of a machine says of itself. Times are Unix microseconds.

    ``settles``: it is the one that does. Then ``settled_us``: up to when all is settled, ``waits_for``: what is in the
    way of settling more ("" while it is up to date), ``held``: events that are not settled, ``late_us``: of requests,
    since it began, that came to light too late to have their GPU time counted. ``problem``: "" while all is well.
    """

    machine: str
    at_us: int
    spools: int = 0
    shipped: int = 0  # events, since it began
    lost_bytes: int = 0  # of logs that could not be read
    settles: bool = False
    settled_us: int = 0
    settled: int = 0
    held: int = 0
    late_us: int = 0
    waits_for: str = ""
    problem: str = ""


# What is added up per hour and day for each (tenant, project, key, model). Whole numbers, in the units of this module.
METRICS = (
    "requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens", "queue_us", "wake_us", "run_us",
    "gpu_ns", "memory_kib_ms", "start_gpu_ns", "cost",
)  # fmt: skip
DIMENSIONS = ("tenant", "project", "key", "model")
GPU_DIMENSIONS = ("gpu", "use", "tenant", "project", "key", "model")  # of GPU time; "" where nobody or nothing is meant
SEPARATOR = "\x1f"
