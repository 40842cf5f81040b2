"""A world in virtual time that carries plans out: starts, wakes and drains take their time, requests come and go.

It keeps its own ledger, so every action that does not fit at the moment it is applied raises OverCapacity, and it
checks every action against the rules that no plan may break.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from packers.decide import Policies
from packers.ledger import Ledger
from packers.types import (
    Action,
    Demand,
    Gpu,
    Hold,
    Model,
    ModelId,
    Node,
    Plan,
    Refuse,
    Replica,
    ReplicaId,
    ReplicaState,
    Sleep,
    Snapshot,
    Start,
    Stop,
    Wake,
)
from tests.packers.worlds import PLAIN, decide

START_S, WAKE_S, DRAIN_S, TICK_S = 1.0, 0.2, 0.1, 1.0
MOST_ROUNDS = 60  # decisions at one instant, each after the actions of the one before


@dataclass
class Request:
    model: ModelId
    at_s: float
    duration_s: float
    replica: ReplicaId | None = None
    served_s: float | None = None
    refused: bool = False


class Yard:
    def __init__(
        self, gpus: Sequence[Gpu], nodes: Sequence[Node], models: Sequence[Model], policies: Policies | None = None
    ) -> None:
        self.gpus, self.nodes = tuple(gpus), tuple(nodes)
        self.models = {model.id: model for model in models}
        self.policies = policies or PLAIN
        self.ledger = Ledger(gpus, nodes)
        self.replicas: dict[ReplicaId, Replica] = {}
        self.requests: list[Request] = []
        self.done: list[Action] = []
        self.holds: dict[ModelId, str] = {}
        self.fail: set[ModelId] = set()  # models whose starts fail
        self.now_s = 0.0
        self._ids = itertools.count(1)
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    # What happens from outside

    def request(self, model: ModelId, at_s: float, duration_s: float) -> Request:
        asked = Request(model, at_s, duration_s)
        self._at(at_s, lambda: self.requests.append(asked))
        return asked

    def place(self, replica: Replica) -> None:
        self.ledger.hold(replica)
        self.replicas[replica.id] = replica

    def run(self, until_s: float) -> None:
        """Every event, and a tick each second, is followed by decisions until one asks for nothing new."""
        for tick in range(int(self.now_s), int(until_s) + 1):
            self._at(max(float(tick), self.now_s), lambda: None)
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, happen = heapq.heappop(self._events)
            happen()
            self.settle()

    def settle(self) -> None:
        for _ in range(MOST_ROUNDS):
            self._serve()
            plan = self.decide()
            acts = [action for action in plan.actions if not isinstance(action, Hold | Refuse)]
            for action in plan.actions:
                self._apply(action)
            self._check_books()
            if not acts:
                return
        raise AssertionError(f"no end of decisions at {self.now_s}: {self.done[-6:]}")

    # What decisions see and do

    def snapshot(self) -> Snapshot:
        models = tuple(replace(model, demand=self._demand(model.id)) for model in self.models.values())
        return Snapshot(f"{self.now_s}", self.now_s, self.gpus, self.nodes, tuple(self.replicas.values()), models)

    def decide(self) -> Plan:
        there = self.snapshot()
        plan = decide(there, self.policies)
        assert plan == decide(there, self.policies), "the same snapshot gave two plans"
        touched = [action.replica for action in plan.actions if isinstance(action, Wake | Sleep | Stop)]
        assert len(touched) == len(set(touched)), f"two actions for one replica: {plan}"
        self.holds = {action.model: action.reason for action in plan.actions if isinstance(action, Hold)}
        return plan

    def waiting(self) -> list[Request]:
        return [one for one in self.requests if one.replica is None and not one.refused]

    def _demand(self, model: ModelId) -> Demand:
        held = [one for one in self.waiting() if one.model == model]
        running = sum(replica.in_flight for replica in self.replicas.values() if replica.model == model)
        oldest_s = min((one.at_s for one in held), default=self.now_s)
        return Demand(in_flight=running, held=len(held), oldest_wait_s=self.now_s - oldest_s)

    def _apply(self, action: Action) -> None:
        assert action.reason
        match action:
            case Start(model=model, gpu=gpu):
                replica = Replica(
                    ReplicaId(f"{model}-{next(self._ids)}"), model, gpu, ReplicaState.STARTING, action.footprint
                )
                self.place(replica)
                self._at(self.now_s + START_S, lambda: self._started(replica.id))
            case Wake(replica=name):
                assert self.replicas[name].state is ReplicaState.ASLEEP
                assert self.replicas[name].draining_to is None
                self._move(name, ReplicaState.STARTING)
                self._at(self.now_s + WAKE_S, lambda: self._started(name))
            case Sleep(replica=name):
                self._check_may_leave(action)
                assert self.replicas[name].state is ReplicaState.READY
                self._move(name, ReplicaState.DRAINING, ReplicaState.ASLEEP)
                self._at(self.now_s + DRAIN_S, lambda: self._drained(name, self._asleep))
            case Stop(replica=name):
                self._check_may_leave(action)
                asleep = self.replicas[name].state is ReplicaState.ASLEEP
                self._move(name, ReplicaState.ASLEEP if asleep else ReplicaState.DRAINING, ReplicaState.DEAD)
                self._at(self.now_s + DRAIN_S, lambda: self._drained(name, self._gone))
            case Refuse(model=model):
                for one in self.waiting():
                    one.refused = one.refused or one.model == model
        if not isinstance(action, Hold | Refuse):
            self.done.append(action)

    def _check_may_leave(self, action: Sleep | Stop) -> None:
        replica = self.replicas[action.replica]
        model = self.models[replica.model]
        assert not replica.pinned
        assert not model.pinned
        # Callers' replicas go only for those who have waited for too long, and finish what they have.
        assert replica.in_flight == 0 or (action.evicted_for is not None and self.policies.patience_s is not None)
        assert replica.state in (ReplicaState.READY, ReplicaState.ASLEEP)
        assert replica.draining_to is None
        if action.evicted_for is not None:
            assert self.models[action.evicted_for].footprint.gpu_bytes > 0
            assert action.evicted_for != replica.model or replica.state is ReplicaState.ASLEEP
        if replica.state is ReplicaState.READY and model.min_replicas:
            ready = sum(one.model == model.id and one.state is ReplicaState.READY for one in self.replicas.values())
            outranked = action.evicted_for and self.models[action.evicted_for].priority > model.priority
            assert ready > model.min_replicas or outranked

    def _check_books(self) -> None:
        """What the replicas hold is what is reserved: nothing is lost and nothing counted twice."""
        assert Ledger.of(self.snapshot()).entries() == self.ledger.entries()

    # What becomes of it

    def _at(self, at_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), happen))

    def _move(self, name: ReplicaId, state: ReplicaState, to: ReplicaState | None = None) -> None:
        moved = replace(self.replicas[name], state=state, draining_to=to, state_since_s=self.now_s)
        self.ledger.hold(moved)
        self.replicas[name] = moved

    def _drained(self, name: ReplicaId, then: Callable[[ReplicaId], None]) -> None:
        if self.replicas[name].in_flight:
            self._at(self.now_s + DRAIN_S, lambda: self._drained(name, then))
        else:
            then(name)

    def _asleep(self, name: ReplicaId) -> None:
        self._move(name, ReplicaState.ASLEEP)

    def _started(self, name: ReplicaId) -> None:
        model = self.replicas[name].model
        if model in self.fail:
            self._gone(name)
            self.models[model] = replace(self.models[model], retry_at_s=self.now_s + 5)
        else:
            self._move(name, ReplicaState.READY)

    def _gone(self, name: ReplicaId) -> None:
        self.ledger.release(name)
        del self.replicas[name]

    def _serve(self) -> None:
        """Held requests go to the ready replica of their model with the least to do."""
        for request in self.waiting():
            ready = [
                one for one in self.replicas.values() if one.model == request.model and one.state is ReplicaState.READY
            ]
            if ready:
                chosen = min(ready, key=lambda one: (one.in_flight, one.id))
                request.replica = chosen.id
                self._use(chosen.id, 1)
                self._at(self.now_s + request.duration_s, lambda request=request: self._finish(request))  # type: ignore[misc]

    def _finish(self, request: Request) -> None:
        assert request.replica is not None
        request.served_s = self.now_s
        self._use(request.replica, -1)

    def _use(self, name: ReplicaId, more: int) -> None:
        one = self.replicas[name]
        self.replicas[name] = replace(one, in_flight=one.in_flight + more, last_used_s=self.now_s)
