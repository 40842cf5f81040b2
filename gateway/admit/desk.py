"""What this worker knows of one model: its replicas, who waits for them, and how fast they are."""

from __future__ import annotations

from random import Random

from gateway.admit.estimates import Pace, start_left_s
from gateway.admit.picking import of_revision, others, pick
from gateway.admit.queue import Queue
from gateway.admit.retries import Retries
from gateway.admit.rotation import Rotation
from gateway.admit.target import LEAST_WEIGHT, Target, share_of
from gateway.admit.ticket import Ticket
from gateway.demand import ModelCounts
from gateway.inquiry import Caller, Inquiry
from gateway.routing import READY
from models.store.records import ModelRoute, ReplicaRoute
from packers.types import ModelId, ReplicaId


class Desk:
    """``open``: replicas that may get new requests, in the table's order. ``listed``: ready ones, in rotation or not.

    ``cold_since_s``: since when somebody waits for a start (monotonic); None: nobody does.
    """

    __slots__ = (
        "adapters", "cold_since_s", "counts", "even", "listed", "model", "open", "pace", "queue", "retries", "route",
        "targets",
    )  # fmt: skip

    def __init__(self, route: ModelRoute, counts: ModelCounts) -> None:
        self.model = ModelId(route.model_id)
        self.route = route
        self.counts = counts
        self.targets: dict[ReplicaId, Target] = {}
        self.listed = 0
        self.open: list[Target] = []
        self.even = True  # all of them weigh the same
        self.adapters: frozenset[str] = frozenset()
        self.queue = Queue()
        self.retries = Retries()
        self.pace = Pace()
        self.cold_since_s: float | None = None

    @property
    def cold(self) -> bool:
        """No replica is ready, not even one that is out of rotation."""
        return not self.listed

    def update(self, route: ModelRoute, workers: int, rotation: Rotation) -> None:
        """A replica that is gone from the table is remembered while something is in flight on it."""
        self.route = route
        self.adapters = frozenset(route.adapters)
        known, self.targets = self.targets, {}
        for replica in route.replicas:
            name = ReplicaId(replica.replica_id)
            self.targets[name] = _as_target(known.pop(name, None), replica)
        for name, target in known.items():
            target.ready = False
            if target.flying:
                self.targets[name] = target
            else:
                rotation.forget(name)
        self.share(workers)
        self.reopen(rotation)

    def share(self, workers: int) -> None:
        for target in self.targets.values():
            target.limit = share_of(target.slots, workers)

    def reopen(self, rotation: Rotation) -> None:
        """A revision without a share of the traffic gets nothing, unless no other is ready."""
        ready = [target for target in self.targets.values() if target.ready]
        self.listed = len(ready)
        if traffic := self.route.traffic:
            ready = [target for target in ready if traffic.get(target.revision, 0.0) > 0.0] or ready
        self.open = [target for target in ready if not rotation.is_out(target.id)] if rotation else ready
        self.even = len({target.weight for target in ready}) <= 1

    def pick(self, inquiry: Inquiry, rng: Random) -> Target | None:
        """A replica with room; None when there is none."""
        targets = self.open
        if len(targets) == 1:
            target = targets[0]
            return target if target.flying < target.limit else None
        targets = [target for target in targets if target.flying < target.limit]
        if not targets:
            return None
        if inquiry.avoid:
            targets = others(targets, inquiry.avoid)
        session = inquiry.session
        if self.route.traffic:
            targets = of_revision(targets, self.route.traffic, session, rng)
        return pick(targets, session, inquiry.peek.prefix, rng, even=self.even)

    @property
    def has_room(self) -> bool:
        return any(target.flying < target.limit for target in self.open)

    @property
    def places(self) -> int:
        return sum(target.limit for target in self.open)

    def tickets(self) -> list[Ticket]:
        return [*self.queue.tickets(), *self.retries.waiting.values()]

    def overdue(self, now_s: float) -> list[Ticket]:
        """Held requests whose deadline has come."""
        retries = [each for each in self.retries.waiting.values() if each.deadline_s <= now_s]
        return [*self.queue.overdue(now_s), *retries]

    def start_left_s(self, now_s: float) -> float | None:
        """Until it is expected to be ready; None: not known."""
        estimate_s = self.route.start_estimate_s
        if estimate_s is None:
            return None
        return start_left_s(estimate_s, now_s - self.cold_since_s if self.cold_since_s is not None else 0.0)

    def turn_left_s(self, caller: Caller, priority: int) -> float | None:
        """Until a new request of this caller has its turn; None: not known."""
        return self.pace.wait_s(self.queue.ahead_of(caller, priority), self.places)


def _as_target(known: Target | None, replica: ReplicaRoute) -> Target:
    name = ReplicaId(replica.replica_id)
    target = known if known is not None else Target(name, replica.endpoint)
    target.endpoint = replica.endpoint
    target.serves_as = replica.serves_as
    target.revision = replica.revision
    target.weight = max(replica.weight, LEAST_WEIGHT)
    target.slots = replica.slots
    target.memory_bytes = replica.memory_bytes
    target.gpu_share = replica.gpu_share
    target.ready = replica.state == READY
    return target
