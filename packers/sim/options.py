"""How a simulation is run, apart from the world and the policies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from packers.types import Gpu, GpuId, ModelId, Node


@dataclass(frozen=True, slots=True)
class GpuLost:
    """At ``at_s`` the GPU is gone, with everything on it, without notice."""

    at_s: float
    gpu: GpuId


@dataclass(frozen=True, slots=True)
class GpuReclaimed:
    """The provider says at ``at_s`` that the GPU goes in ``notice_s``: it is cordoned at once and lost then."""

    at_s: float
    gpu: GpuId
    notice_s: float = 30.0


@dataclass(frozen=True, slots=True)
class GpuJoins:
    """A GPU comes in (also one that was lost before). ``node``: named when it is a new one."""

    at_s: float
    gpu: Gpu
    node: Node | None = None


Event = GpuLost | GpuReclaimed | GpuJoins


@dataclass(frozen=True, slots=True)
class SimOptions:
    """
    ``slots``: requests that one replica serves at a time; more of them wait in their model's queue. None: no limit.
    ``model_slots``: the same for single models, instead of ``slots``.
    ``tick_s``: decisions are also taken this often, which whatever looks at the clock needs. None: every second if
    some model may have several replicas or a policy asks for it, else not at all. 0: not at all.
    ``report_s``: what is in flight and held is told to autoscaling this often, besides at every decision. Production's
    gateways tell it every 0.1 s or so; it only makes a difference where decisions are rarer. 0: not at all.
    ``busy_retry_s``: while a model waits for busy replicas to become idle, decisions are this far apart at least.
    ``look_s``: an idle replica that is to go sooner than this (and sooner than any ttl) may go up to this much later.
    ``hold_timeout_s``: a request that is not served by then has timed out; ``hold_limit``: requests that one model
    may have waiting, further ones are refused.
    ``drain_timeout_s``: a leaving replica is ended with what it still serves after this long.
    ``fail_start_share``, ``fail_wake_share``: of starts and wakes, at random from ``seed``. A model whose start failed
    is tried again after 1 s, 2 s, 4 s ... 60 s, as in production; what it had waiting fails.
    ``loads_per_gpu``: loads at a time on one GPU, further ones wait for them (0: no limit). Production does one.
    ``until_s``: requests from there on are left out; None: all are played. ``events``: what happens to the hardware.
    ``track_usage``: whether arrivals are followed for what residency policies read, ``track_load``: for what
    autoscaling reads, which costs more. None: as far as the policies and models ask for it.
    ``keep_waits``: the result holds the wait of every request. ``memory_points``: the most that it holds of memory
    over time (0: none), ``reasons``: of decisions in words.
    ``before_decide``: called with the time in seconds before every decision; for oracles in benchmarks, which look
    ahead in the trace. ``stopwatch``: seconds of a real clock; with it the result says how long deciding took.
    """

    seed: int = 0
    slots: int | None = None
    model_slots: Mapping[ModelId, int | None] = field(default_factory=dict)
    tick_s: float | None = None
    report_s: float = 0.0
    busy_retry_s: float = 0.1
    look_s: float = 30.0
    hold_timeout_s: float = 120.0
    hold_limit: int | None = None
    drain_timeout_s: float = 30.0
    fail_start_share: float = 0.0
    fail_wake_share: float = 0.0
    loads_per_gpu: int = 1
    until_s: float | None = None
    events: tuple[Event, ...] = ()
    track_usage: bool | None = None
    track_load: bool | None = None
    keep_waits: bool = False
    memory_points: int = 20_000
    reasons: int = 200
    before_decide: Callable[[float], None] | None = None
    stopwatch: Callable[[], float] | None = None

    def __post_init__(self) -> None:
        positive = ("hold_timeout_s", "busy_retry_s", "look_s")
        natural = ("tick_s", "report_s", "hold_limit", "drain_timeout_s", "loads_per_gpu", "until_s")
        counts = ("memory_points", "reasons")
        for name in (*positive, *natural, *counts):
            value = getattr(self, name)
            if value is None:
                continue
            if not (value > 0 if name in positive else value >= 0):  # written so that NaN is refused, too
                least = "above 0" if name in positive else "0 or more"
                raise ValueError(f"options.{name} must be {least}, got {value}")
        for name in ("fail_start_share", "fail_wake_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"options.{name} must be from 0 to 1, got {getattr(self, name)}")
        for where, slots in (("slots", self.slots), *((f"model_slots.{m}", n) for m, n in self.model_slots.items())):
            if slots is not None and not slots >= 1:
                raise ValueError(f"options.{where} must be at least 1, got {slots}")
        for place, event in enumerate(self.events):
            if not 0 <= event.at_s < math.inf:
                raise ValueError(f"options.events[{place}].at_s must be 0 or more, got {event.at_s}")

    def slots_of(self, model: ModelId) -> int | None:
        return self.model_slots.get(model, self.slots)
