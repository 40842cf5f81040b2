"""What the facts call for, model by model: who lacks replicas, and when time alone will call for something."""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from packers.scaling import Roll, Standing, by_demand, roll
from packers.timers import Timers
from packers.types import Model, ModelId, Replica, ReplicaState


class Outlook:
    """By demand alone. ``wanting``: models that lack replicas or are switched off while callers wait. ``active``: those
    that an autoscaling policy may have something to say about. ``elastic``: those with KV caches that resize, of which
    some are ``lacking`` what they wish for.

    ``due``: when a replica of the model expires or is forgotten. ``retries``: when one that lacks replicas may start.
    """

    def __init__(self) -> None:
        self.standings: dict[ModelId, Standing] = {}
        self.rolls: dict[ModelId, Roll] = {}
        self.wanting: set[ModelId] = set()
        self.active: set[ModelId] = set()
        self.elastic: set[ModelId] = set()
        self.lacking: set[ModelId] = set()
        self.due: Timers[ModelId] = Timers()
        self.retries: Timers[ModelId] = Timers()

    def review(self, model: Model, replicas: Collection[Replica]) -> None:
        """Something about the model or its replicas has changed."""
        mine = roll(model.id, replicas)
        stands = by_demand(model, mine)
        self.rolls[model.id], self.standings[model.id] = mine, stands
        if stands.missing or stands.switched_off:
            self.wanting.add(model.id)
            self.retries.set(model.id, model.retry_at_s)
        else:
            self.wanting.discard(model.id)
            self.retries.set(model.id, None)
        self.due.set(model.id, stands.due_s)
        self._review_caches(model, replicas)
        idle = not (stands.count or stands.coming or stands.loose or model.demand.present)
        if idle and not model.load.arrivals and not model.load.expected and not model.scale_memory.count:
            self.active.discard(model.id)
        else:
            self.active.add(model.id)

    def _review_caches(self, model: Model, replicas: Collection[Replica]) -> None:
        if not model.resizes and model.id not in self.elastic:
            return
        serving = [one for one in replicas if one.state is ReplicaState.READY] if model.resizes else []
        wish_bytes = model.footprint.kv_cache_bytes
        lacks = any(one.footprint.kv_cache_bytes < wish_bytes for one in serving)
        (self.elastic.add if serving else self.elastic.discard)(model.id)
        (self.lacking.add if lacks else self.lacking.discard)(model.id)

    def forget(self, model: ModelId) -> None:
        self.standings.pop(model, None)
        self.rolls.pop(model, None)
        self.wanting.discard(model)
        for those in (self.active, self.elastic, self.lacking):
            those.discard(model)
        self.due.set(model, None)
        self.retries.set(model, None)

    def next_time_s(self, now_s: float) -> float | None:
        """The earliest later time at which something expires, is forgotten, or may be tried again."""
        times = [self.due.next_after(now_s), self.retries.next_after(now_s)]
        times += [self.standings[model].next_due_s(now_s) for model in self.due.due(now_s)]
        found = min((at_s for at_s in times if at_s is not None), default=inf)
        return None if found == inf else found
