"""``simulate``: a trace through the world, with the production policies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

import numpy as np

from packers.decide import DEFAULT_POLICIES, Policies
from packers.load import LoadTracker
from packers.residency import RESIDENCY
from packers.sim.agenda import Agenda, Kind
from packers.sim.alarm import AUTOMATIC_TICK_S, Alarm
from packers.sim.check import check
from packers.sim.control import Control
from packers.sim.errors import SimError
from packers.sim.fleet import VirtualFleet
from packers.sim.front import NO_LIMIT, Front, Lane
from packers.sim.meter import Meter
from packers.sim.options import GpuJoins, GpuLost, GpuReclaimed, SimOptions
from packers.sim.oracle import by_model
from packers.sim.result import SimResult
from packers.sim.summary import summary
from packers.sim.timeline import Timeline
from packers.sim.trace import Floats, Trace
from packers.sim.trackers import Past, aim_of
from packers.sim.world import SimWorld
from packers.state import State
from packers.types import Model, ModelId
from packers.usage import UsageTracker

__all__ = ["Progress", "SimError", "simulate"]

Progress = Callable[[int, int], None]  # requests so far, of how many
CHUNK = 8192  # requests between two calls of progress
LONGEST_END_S = 86_400.0  # after the last arrival, for requests that nothing else ends


def simulate(
    trace: Trace,
    world: SimWorld,
    policies: Policies = DEFAULT_POLICIES,
    options: SimOptions | None = None,
    progress: Progress | None = None,
) -> SimResult:
    """Deterministic. Raises SimError for a world or a trace that cannot be played (``packers.sim.check``)."""
    given = options or SimOptions()
    played = trace if given.until_s is None else trace.clip(0.0, given.until_s)
    check(played, world, given)
    return Simulation(played, world, policies, given).run(progress)


class Simulation:
    """One run, wired together. ``simulate`` checks what it is given first."""

    def __init__(self, trace: Trace, world: SimWorld, policies: Policies, options: SimOptions) -> None:
        self.trace, self.world, self.options = trace, world, options
        self.agenda = Agenda()
        service_s = world.service.of(trace)
        self.lanes = _lanes(trace, service_s, world, policies, options)
        self.meter = Meter(Timeline(options.memory_points), deque(maxlen=options.reasons))
        self.front = Front(
            self.agenda,
            at_s=trace.at_s.tolist(),
            service_s=service_s.tolist(),
            waits_s=[0.0] * len(trace),
            hold_timeout_s=options.hold_timeout_s,
            hold_limit=NO_LIMIT if options.hold_limit is None else options.hold_limit,
            ask=lambda cause: self.control.ask(cause),
        )
        state = State(world.gpus, world.nodes, world.pools)
        state.put_guarantees(world.guarantees)
        fleet = VirtualFleet(
            self.agenda,
            world.startup,
            state.nodes,
            np.random.default_rng(options.seed),
            options.fail_start_share,
            options.fail_wake_share,
            options.loads_per_gpu,
        )
        self.alarm = Alarm(
            self.agenda,
            ask=lambda cause: self.control.ask(cause),
            refresh=lambda: self.control.refresh(),
            next_time_s=lambda now_s: state.next_time_s(now_s, rest_s=policies.rest_s),
            busy_retry_s=options.busy_retry_s,
            look_s=min([options.look_s, *(max(model.ttl_s, 0.1) for model in world.models)]),
        )
        self.control = Control(
            self.agenda, state, self.front, fleet, self.meter, self.alarm, self.lanes, policies, options
        )
        self._furnish()

    def _furnish(self) -> None:
        for gpu in self.world.gpus:
            self.meter.gpu_joined(gpu, 0.0)
        for lane in self.lanes.values():
            self.control.state.put_model(lane.model)
        for replica in sorted(self.world.replicas, key=lambda one: one.id):
            self.control.place(replica)
        for event in self.options.events:
            self._enter(event)
        self.control.ask("begin")
        self.alarm.tick_every(self._tick_s())
        self.alarm.every(self.options.report_s, self.control.report)

    def _tick_s(self) -> float:
        if self.options.tick_s is not None:
            return self.options.tick_s
        policies = self.control.policies
        by_time = policies.prewarm or (policies.scaling, policies.defrag) != ("demand", "none")
        return AUTOMATIC_TICK_S if by_time or any(_several(model) for model in self.world.models) else 0.0

    def _enter(self, event: GpuLost | GpuReclaimed | GpuJoins) -> None:
        control, agenda = self.control, self.agenda
        match event:
            case GpuLost(at_s, gpu):
                agenda.at(at_s, Kind.HARDWARE, lambda: control.gpu_lost(gpu))
            case GpuReclaimed(at_s, gpu, notice_s):
                agenda.at(at_s, Kind.HARDWARE, lambda: control.cordon(gpu))
                agenda.at(at_s + notice_s, Kind.HARDWARE, lambda: control.gpu_lost(gpu))
            case GpuJoins(at_s, joins, node):
                if node is not None:
                    agenda.at(at_s, Kind.HARDWARE, lambda: control.state.put_node(node))
                agenda.at(at_s, Kind.HARDWARE, lambda: control.gpu_joins(joins))

    def run(self, progress: Progress | None) -> SimResult:
        by_index = [self.lanes[name] for name in self.trace.names]
        total = len(self.trace)
        index = self.trace.model.tolist()
        for begin in range(0, total, CHUNK):
            self._play(index, by_index, begin, min(begin + CHUNK, total))
            if progress is not None:
                progress(min(begin + CHUNK, total), total)
        self._finish()
        waits_s = np.array(self.front.waits_s)
        return summary(self.trace, self.world, self.options, self.lanes, waits_s, self.meter, self.agenda.now_s)

    def _play(self, index: Sequence[int], by_index: Sequence[Lane], begin: int, end: int) -> None:
        """The inner loop: a request to a model with one ready replica of any number of slots costs no event."""
        agenda, front = self.agenda, self.front
        touched, service_s, at_s = front.touched, front.service_s, front.at_s
        next_s = agenda.next_s
        for number in range(begin, end):
            now_s = at_s[number]
            if now_s >= next_s:
                agenda.run_before(now_s, Kind.ARRIVAL)
                next_s = agenda.next_s
            lane = by_index[index[number]]
            runner = lane.only
            if runner is None:
                agenda.now_s = now_s
                front.arrive(number, lane)
                next_s = agenda.next_s
                continue
            ends_s = runner.ends_s
            while ends_s and ends_s[0] <= now_s:
                runner.last_s = heappop(ends_s)
            heappush(ends_s, now_s + service_s[number])
            if not runner.touched:
                runner.touched = True
                touched.append(runner)

    def _finish(self) -> None:
        """After the last arrival, until nobody waits any more."""
        agenda = self.agenda
        limit_s = self.trace.duration_s + min(self.options.hold_timeout_s, LONGEST_END_S)
        agenda.run_before(self.trace.duration_s, Kind.ARRIVAL)
        while self.front.waiting and agenda.next_s <= limit_s:
            agenda.step()
        self.front.give_up()
        end_s = self.options.until_s or 0.0
        if end_s > agenda.now_s:
            agenda.run_before(end_s, Kind.ARRIVAL)


def _lanes(
    trace: Trace, service_s: Floats, world: SimWorld, policies: Policies, options: SimOptions
) -> dict[ModelId, Lane]:
    """Of every model, by id."""
    arrivals, works = by_model(trace, trace.at_s), by_model(trace, service_s)
    residency = RESIDENCY.get(policies.eviction)
    reads_usage = residency is None or not residency.recency
    by_usage = reads_usage if options.track_usage is None else options.track_usage
    found = {}
    for model in sorted((world.informed(one) for one in world.models), key=lambda one: one.id):
        slots = options.slots_of(model.id)
        several = _several(model)
        by_load = several or policies.scaling != "demand" if options.track_load is None else options.track_load
        past = Past(
            arrivals.get(model.id, ()),
            works.get(model.id, ()),
            LoadTracker(aim_of(model, model.startup, asleep=False)) if by_load else None,
            UsageTracker() if by_usage else None,
        )
        found[model.id] = Lane(model, past, NO_LIMIT if slots is None else slots, not several and not by_load)
    return found


def _several(model: Model) -> bool:
    """It may have more than one replica."""
    return max(model.max_replicas, model.min_replicas) > 1
