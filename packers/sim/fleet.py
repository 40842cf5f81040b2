"""The fleet in virtual time: nothing but how long things take, and whether they work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from packers.sim.agenda import Agenda, Kind
from packers.sim.link import Link, Transfer
from packers.sim.startup import StartUp
from packers.types import GpuId, Node, NodeId, Replica, ReplicaId


@dataclass(frozen=True, slots=True)
class Loaded:
    """A start or a wake has ended. ``seconds``: how long it took since its turn came."""

    ok: bool
    seconds: float


class SimFleet(Protocol):
    """What can be asked of engines. Each call returns at once; ``then`` is called when it has been done."""

    def start(self, replica: Replica, node: NodeId, then: Callable[[Loaded], None]) -> None: ...

    def wake(self, replica: Replica, node: NodeId, then: Callable[[Loaded], None]) -> None: ...

    def sleep(self, replica: Replica, then: Callable[[], None]) -> None: ...

    def stop(self, replica: Replica, then: Callable[[], None]) -> None: ...

    def resize(self, replica: Replica, then: Callable[[], None]) -> None: ...

    def lose(self, replica: ReplicaId) -> None:
        """Its process is gone: nothing that is under way with it comes to an end any more."""


@dataclass(eq=False, slots=True)
class _Load:
    replica: Replica
    node: NodeId
    wakes: bool
    fails: bool
    then: Callable[[Loaded], None]
    began_s: float | None = None
    transfer: Transfer | None = None
    gone: bool = False


@dataclass(eq=False, slots=True)
class VirtualFleet:
    """``loads_per_gpu``: further loads on a GPU wait for their turn, in order (0: no limit)."""

    agenda: Agenda
    startup: StartUp
    nodes: Mapping[NodeId, Node]
    rng: np.random.Generator
    fail_start_share: float = 0.0
    fail_wake_share: float = 0.0
    loads_per_gpu: int = 1
    _queues: dict[GpuId, list[_Load]] = field(default_factory=dict)
    _loads: dict[ReplicaId, _Load] = field(default_factory=dict)
    _links: dict[NodeId, Link] = field(default_factory=dict)
    _lost: set[ReplicaId] = field(default_factory=set)

    def start(self, replica: Replica, node: NodeId, then: Callable[[Loaded], None]) -> None:
        self._order(_Load(replica, node, False, self._chance(self.fail_start_share), then))

    def wake(self, replica: Replica, node: NodeId, then: Callable[[Loaded], None]) -> None:
        self._order(_Load(replica, node, True, self._chance(self.fail_wake_share), then))

    def sleep(self, replica: Replica, then: Callable[[], None]) -> None:
        self._later(self.startup.sleep.seconds(replica.footprint.weights_bytes), replica.id, then)

    def stop(self, replica: Replica, then: Callable[[], None]) -> None:
        self._later(self.startup.stop_s, replica.id, then)

    def resize(self, replica: Replica, then: Callable[[], None]) -> None:
        self._later(self.startup.resize_s, replica.id, then)

    def lose(self, replica: ReplicaId) -> None:
        load = self._loads.pop(replica, None)
        if load is not None:
            load.gone = True
            if load.transfer is not None:
                self._link(load.node).cancel(load.transfer)
            self._leave_queues(load)
        self._lost.add(replica)

    def _later(self, delay_s: float, replica: ReplicaId, then: Callable[[], None]) -> None:
        self.agenda.after(delay_s, Kind.FLEET, lambda: None if replica in self._lost else then())

    def _chance(self, share: float) -> bool:
        return share > 0 and float(self.rng.random()) < share

    def _order(self, load: _Load) -> None:
        self._loads[load.replica.id] = load
        if not self.loads_per_gpu:
            self._begin(load)
            return
        for gpu in load.replica.gpus:
            self._queues.setdefault(gpu, []).append(load)
        self._admit(load)

    def _admit(self, load: _Load) -> None:
        turns = [self._queues[gpu].index(load) for gpu in load.replica.gpus]
        if load.began_s is None and all(turn < self.loads_per_gpu for turn in turns):
            self._begin(load)

    def _begin(self, load: _Load) -> None:
        load.began_s = self.agenda.now_s
        tier = self.startup.host if load.wakes else self.startup.disk
        self.agenda.after(tier.fixed_s, Kind.FLEET, lambda: self._transfer(load))

    def _transfer(self, load: _Load) -> None:
        if load.gone:
            return
        if load.fails:
            self._end(load, ok=False)
            return
        size_bytes, most_bytes_per_s = self.startup.transfer(load.replica, load.wakes)
        link = self._link(load.node)
        load.transfer = link.send(size_bytes, most_bytes_per_s, lambda: self._end(load, ok=True))

    def _end(self, load: _Load, *, ok: bool) -> None:
        del self._loads[load.replica.id]
        self._leave_queues(load)
        load.then(Loaded(ok, self.agenda.now_s - (load.began_s or 0.0)))

    def _leave_queues(self, load: _Load) -> None:
        waiting = []
        for gpu in load.replica.gpus if self.loads_per_gpu else ():
            self._queues[gpu].remove(load)
            waiting += self._queues[gpu]
        for other in dict.fromkeys(waiting):
            self._admit(other)

    def _link(self, node: NodeId) -> Link:
        if node not in self._links:
            known = self.nodes.get(node)
            self._links[node] = Link(self.agenda, known.link_bytes_per_s if known else 0.0)
        return self._links[node]
