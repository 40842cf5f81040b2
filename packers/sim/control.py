"""The controller's part: it keeps the State, has it decided on, and carries the plans out on the fleet.

Decisions are taken when something could come of them: a model is waited for and nothing serves it, a replica became
ready, asleep or ended, hardware came or went, a time has come (``packers.sim.alarm``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from packers.decide import Policies, decide_on
from packers.sim.agenda import Agenda, Kind
from packers.sim.alarm import Alarm
from packers.sim.fleet import Loaded, SimFleet
from packers.sim.front import Front, Lane, Runner
from packers.sim.meter import Meter
from packers.sim.options import SimOptions
from packers.sim.result import Decided
from packers.sim.trackers import aim_of
from packers.state import State
from packers.types import (
    Action,
    Gpu,
    GpuId,
    Hold,
    ModelId,
    Refuse,
    Replica,
    ReplicaId,
    ReplicaState,
    Resize,
    Sleep,
    Start,
    Stop,
    Wake,
)

PATIENCE_TICK_S = 1.0  # how soon minimum residency may end, or a need be overdue
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
MOST_AT_ONCE = 10  # decisions at one instant: where things take no time, policies could go on for ever


@dataclass(eq=False, slots=True)
class Control:
    agenda: Agenda
    state: State
    front: Front
    fleet: SimFleet
    meter: Meter
    alarm: Alarm
    lanes: Mapping[ModelId, Lane]
    policies: Policies
    options: SimOptions
    runners: dict[ReplicaId, Runner] = field(default_factory=dict)
    _active: dict[ReplicaId, Runner] = field(default_factory=dict)  # in flight when last looked at
    _held: dict[ModelId, Lane] = field(default_factory=dict)  # of which the State says that requests wait
    _causes: dict[str, None] = field(default_factory=dict)  # of the decision that is to come
    _numbers: Counter[ModelId] = field(default_factory=Counter)
    _attempts: Counter[ModelId] = field(default_factory=Counter)
    _decided_s: float = -1.0
    _at_once: int = 0
    _stale: set[ModelId] = field(default_factory=set)  # demand as of an earlier moment
    _followed: frozenset[ModelId] = frozenset()  # whose load changes as time passes

    def __post_init__(self) -> None:
        self._followed = frozenset(model for model, lane in self.lanes.items() if lane.past.load_tracker is not None)

    # -- when ----------------------------------------------------------------------------------------------------

    def ask(self, cause: str) -> None:
        """Decide at this instant, after all else that happens at it."""
        if not self._causes:
            self.agenda.after(0.0, Kind.DECIDE, self._decide)
        self._causes[cause] = None

    def _decide(self) -> None:
        now_s = self.agenda.now_s
        self._at_once = self._at_once + 1 if now_s == self._decided_s else 1
        self._decided_s = now_s
        if self._at_once > MOST_AT_ONCE:  # production, too, takes a moment from one to the next
            self.agenda.after(self.options.busy_retry_s, Kind.DECIDE, self._decide)
            return
        self.meter.decisions += 1
        self.meter.causes.update(list(self._causes))
        self._causes.clear()
        self.refresh()
        if self.options.before_decide is not None:
            self.options.before_decide(now_s)
        clock = self.options.stopwatch
        began_s = clock() if clock else 0.0
        plan = decide_on(self.state, str(self.meter.decisions), now_s, self.policies)
        self.meter.decide_s += clock() - began_s if clock else 0.0
        for model, memory in plan.memories:
            self.state.set_memory(model, memory)
        for action in plan.actions:
            self._apply(action)
        if any(isinstance(action, Hold) for action in plan.actions):
            self.alarm.blocked(self._active.values(), PATIENCE_TICK_S if self.policies.patience_s is not None else inf)
        self.alarm.decided(bool(self._active))

    # -- observe -------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Bring what replicas and models are in use for up to this moment; False when no replica is in use."""
        now_s, front = self.agenda.now_s, self.front
        stale = self._stale
        for runner in front.touched:
            runner.touched = False
            if runner.replica.id in self.runners:
                if not (runner.seen and runner.lane.alone):
                    runner.seen = -1
                self._active[runner.replica.id] = runner
        front.touched.clear()
        for runner in list(self._active.values()):
            in_flight, last_used_s = runner.use(now_s)
            if in_flight == runner.seen or (in_flight and runner.seen > 0 and runner.lane.alone):
                continue  # still busy: how busy, and when it was of use last, counts later
            runner.seen = in_flight
            self.state.set_use(runner.replica.id, in_flight, last_used_s)
            stale.add(runner.lane.model.id)
            if not in_flight:
                del self._active[runner.replica.id]
        for lane in (*front.waiting.values(), *self._held.values()):
            if not (lane.queue and lane.alone and lane.starting and lane.model.id in self._held):
                stale.add(lane.model.id)  # else it is on its way, and that more wait for it, and longer, counts later
        stale.update(self._followed)
        for model in sorted(stale):
            self._refresh_model(self.lanes[model], now_s)
        stale.clear()
        return bool(self._active)

    def report(self) -> None:
        """What gateways tell between two decisions."""
        now_s = self.agenda.now_s
        for model in self._followed:
            lane = self.lanes[model]
            lane.past.observe(now_s, lane.in_flight(now_s), len(lane.queue))

    def _refresh_model(self, lane: Lane, now_s: float) -> None:
        in_flight = lane.in_flight(now_s)
        lane.past.refresh(now_s, in_flight, len(lane.queue))
        self.state.set_demand(lane.model.id, self.front.demand(lane, in_flight))
        self.state.set_usage(lane.model.id, lane.past.usage, lane.past.load)
        if lane.queue:
            self._held[lane.model.id] = lane
        else:
            self._held.pop(lane.model.id, None)

    # -- apply ---------------------------------------------------------------------------------------------------

    def _apply(self, action: Action) -> None:
        match action:
            case Start():
                self._start(action)
            case Wake():
                self._wake(action)
            case Sleep() | Stop():
                to = ReplicaState.ASLEEP if isinstance(action, Sleep) else ReplicaState.DEAD
                self.meter.evictions[action.model] += action.evicted_for is not None
                if action.evicted_for is not None:
                    self.state.swapped[action.gpu] = self.agenda.now_s
                self._note(action, action.gpu, action.replica)
                self._drain(self.runners[action.replica], to)
            case Resize():
                self._resize(action)
            case Refuse():
                lane = self.lanes[action.model]
                lane.refused_until_s = inf
                self._note(action, None, None)
                self.front.end_held(lane, failed=False)
                self._stale.add(action.model)
            case Hold():
                self.meter.actions["hold"] += 1

    def _start(self, action: Start) -> None:
        now_s, lane = self.agenda.now_s, self.lanes[action.model]
        self._numbers[action.model] += 1
        replica = Replica(
            id=ReplicaId(f"{action.model}-{self._numbers[action.model]}"),
            model=action.model,
            gpu=action.gpu,
            state=ReplicaState.STARTING,
            footprint=action.footprint,
            last_used_s=now_s,
            state_since_s=now_s,
            pinned=lane.model.pinned,
            priority=lane.model.priority,
            peers=action.peers,
            replaces=action.replaces,
        )
        runner = Runner(replica, lane, now_s)
        self._put(runner, replica)
        lane.starting += 1
        self.meter.starts_disk[action.model] += 1
        self.meter.moves += action.replaces is not None
        self._note(action, action.gpu, replica.id)
        self.fleet.start(replica, self.state.gpus[action.gpu].node, lambda loaded: self._loaded(runner, loaded))

    def _wake(self, action: Wake) -> None:
        runner = self.runners[action.replica]
        if action.gpu != runner.replica.gpu:
            self.meter.moves += 1
            self._change(runner, state=ReplicaState.STARTING, gpu=action.gpu, peers=action.peers)
        else:
            self._change(runner, state=ReplicaState.STARTING)
        runner.lane.starting += 1
        self.meter.starts_host[action.model] += 1
        self._note(action, action.gpu, action.replica)
        self.fleet.wake(runner.replica, self.state.gpus[action.gpu].node, lambda loaded: self._loaded(runner, loaded))

    def _resize(self, action: Resize) -> None:
        """A cache that grows has its memory from now on, one that shrinks gives it back when it is done."""
        runner = self.runners[action.replica]
        self._note(action, action.gpu, action.replica)
        if action.kv_cache_bytes > runner.replica.footprint.kv_cache_bytes:
            self._set_cache(runner, action.kv_cache_bytes)
            self.fleet.resize(runner.replica, lambda: None)
        else:
            self.fleet.resize(runner.replica, lambda: self._shrunk(runner, action.kv_cache_bytes))

    def _shrunk(self, runner: Runner, kv_cache_bytes: int) -> None:
        if runner.replica.id in self.runners:
            self._set_cache(runner, kv_cache_bytes)
            self.ask("resized")

    def _set_cache(self, runner: Runner, kv_cache_bytes: int) -> None:
        footprint = runner.replica.footprint
        least = footprint.kv_min_bytes
        if least is not None and least > kv_cache_bytes:
            least = kv_cache_bytes
        resized = replace(footprint, kv_cache_bytes=kv_cache_bytes, kv_min_bytes=least)
        self._put(runner, replace(runner.replica, footprint=resized))

    # -- drain ---------------------------------------------------------------------------------------------------

    def _drain(self, runner: Runner, to: ReplicaState) -> None:
        now_s, replica = self.agenda.now_s, runner.replica
        if replica.state is ReplicaState.ASLEEP:
            self._change(runner, draining_to=to)
            self._end(runner)
        elif replica.state is ReplicaState.READY:
            runner.lane.leave(runner)
            runner.draining = True
            self._change(runner, state=ReplicaState.DRAINING, draining_to=to)
            self._stale.add(replica.model)
            done_s = min(runner.idle_from_s, now_s + self.options.drain_timeout_s)
            self.agenda.at(done_s, Kind.FLEET, lambda: self._drained(runner))
        elif replica.state is ReplicaState.DRAINING and to is ReplicaState.DEAD and runner.draining:
            self._put(runner, replace(replica, draining_to=to))

    def _drained(self, runner: Runner) -> None:
        if runner.replica.id in self.runners and runner.draining:
            runner.draining = False
            self._cut_off(runner)
            if runner.replica.draining_to is ReplicaState.ASLEEP:
                self.fleet.sleep(runner.replica, lambda: self._asleep(runner))
            else:
                self._end(runner)

    def _cut_off(self, runner: Runner) -> None:
        """Whatever it still serves fails."""
        runner.lane.failed += runner.in_flight(self.agenda.now_s)
        runner.ends_s.clear()
        self._stale.add(runner.lane.model.id)

    def _end(self, runner: Runner) -> None:
        self.fleet.stop(runner.replica, lambda: self._ended(runner))

    # -- what the fleet says -------------------------------------------------------------------------------------

    def _loaded(self, runner: Runner, loaded: Loaded) -> None:
        now_s, lane, model = self.agenda.now_s, runner.lane, runner.replica.model
        lane.starting -= 1
        self.meter.load_s[model] = self.meter.load_s.get(model, 0.0) + loaded.seconds
        if not loaded.ok:
            self._could_not_start(runner)
            return
        self._attempts.pop(model, None)
        self._retry_at(lane, 0.0)
        runner.last_s = now_s
        self._change(runner, state=ReplicaState.READY)
        lane.enter(runner)
        self.front.dispatch(lane)
        self._stale.add(model)
        self.ask("ready")

    def _could_not_start(self, runner: Runner) -> None:
        lane, model = runner.lane, runner.replica.model
        self.meter.failed_starts += 1
        self._attempts[model] += 1
        backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (self._attempts[model] - 1))
        self._retry_at(lane, self.agenda.now_s + backoff_s)
        self.front.end_held(lane, failed=True)
        self._gone(runner)
        self.ask("failed")
        self.agenda.after(backoff_s, Kind.TIMER, lambda: self.ask("retry"))

    def _retry_at(self, lane: Lane, at_s: float) -> None:
        if lane.model.retry_at_s != at_s:
            lane.refused_until_s = at_s or -inf
            lane.model = replace(self.state.models[lane.model.id], retry_at_s=at_s)
            self.state.put_model(lane.model)

    def _asleep(self, runner: Runner) -> None:
        runner.lane.forget(runner)
        self._change(runner, state=ReplicaState.ASLEEP, draining_to=None)
        self.ask("asleep")

    def _ended(self, runner: Runner) -> None:
        self._gone(runner)
        self.ask("ended")

    def _gone(self, runner: Runner) -> None:
        replica = runner.replica
        runner.lane.forget(runner)
        self._active.pop(replica.id, None)
        self.meter.replica(replica, None, self.agenda.now_s)
        self.state.drop_replica(replica.id)
        del self.runners[replica.id]
        self._count_asleep(runner.lane, replica, None)
        self._stale.add(replica.model)
        for other in [one for one in self.runners.values() if one.replica.replaces == replica.id]:
            self._put(other, replace(other.replica, replaces=None))

    # -- hardware ------------------------------------------------------------------------------------------------

    def gpu_lost(self, gpu: GpuId) -> None:
        if gpu not in self.state.gpus:
            return
        for runner in [one for one in self.runners.values() if gpu in one.replica.gpus]:
            if runner.replica.state is ReplicaState.STARTING:
                runner.lane.starting -= 1
            self._cut_off(runner)
            self.fleet.lose(runner.replica.id)
            self._gone(runner)
        self.state.drop_gpu(gpu)
        self.meter.gpu_lost(gpu, self.agenda.now_s)
        self._hope_again()

    def gpu_joins(self, gpu: Gpu) -> None:
        self.state.put_gpu(gpu)
        self.meter.gpu_joined(gpu, self.agenda.now_s)
        self._hope_again()

    def cordon(self, gpu: GpuId) -> None:
        if gpu in self.state.gpus:
            self.state.put_gpu(replace(self.state.gpus[gpu], cordoned=True))
            self.ask("hardware")

    def _hope_again(self) -> None:
        """A model that could never be placed may be placed on other hardware."""
        for lane in self.lanes.values():
            if lane.refused_until_s == inf:
                lane.refused_until_s = -inf
        self.ask("hardware")

    # -- books ---------------------------------------------------------------------------------------------------

    def place(self, replica: Replica) -> None:
        """What is there in the beginning."""
        lane = self.lanes[replica.model]
        runner = Runner(replica, lane, replica.last_used_s)
        self._put(runner, replica)
        if replica.state is ReplicaState.READY:
            lane.enter(runner)

    def _change(self, runner: Runner, **what: Any) -> None:
        """It goes over to another state."""
        self._put(runner, replace(runner.replica, state_since_s=self.agenda.now_s, **what))

    def _put(self, runner: Runner, replica: Replica) -> None:
        """Raises LedgerError when a plan asked for more than there is."""
        now_s = self.agenda.now_s
        in_flight, last_used_s = runner.use(now_s)
        if (in_flight, last_used_s) != (replica.in_flight, replica.last_used_s):
            replica = replace(replica, in_flight=in_flight, last_used_s=last_used_s)
        self.state.put_replica(replica)
        before = self.runners[replica.id].replica if replica.id in self.runners else None
        self.meter.replica(before, replica, now_s)
        self._count_asleep(runner.lane, before, replica)
        runner.replica = replica
        self.runners[replica.id] = runner

    def _count_asleep(self, lane: Lane, before: Replica | None, after: Replica | None) -> None:
        """Whether its next replica would be woken or started is what its load is looked at for."""
        was, now = (one is not None and one.state is ReplicaState.ASLEEP for one in (before, after))
        lane.asleep += now - was
        if was is not now:
            lane.past.retarget(aim_of(lane.model, lane.model.startup, asleep=lane.asleep > 0))

    def _note(
        self, action: Start | Wake | Sleep | Stop | Resize | Refuse, gpu: GpuId | None, replica: ReplicaId | None
    ) -> None:
        kind = type(action).__name__.lower()
        self.meter.actions[kind] += 1
        self.meter.last.append(Decided(self.agenda.now_s, kind, action.model, gpu, replica, action.reason))
