"""Which replicas and models there are, kept between steps: a step looks again only at what may have changed.

With hundreds of models a snapshot made anew costs several milliseconds, most of them for models that nobody has called
since the last one. So each model is looked at again only when

1. something has happened to it: one of its replicas, an action, callers that wait (``touch``);
2. time alone changes it: callers or an operator wait for it;
3. something was heard of it that can wait a little, such as how many requests are in flight (``hear``);
4. what is known of it is FRESH_S old, or QUIET_FRESH_S where it has neither replicas nor callers. Whatever nobody has
   thought of as something that happens is seen then.

3 and 4 are done in pieces of AT_ONCE models between two steps, and in steps that nothing presses: a model that somebody
waits for never waits for hundreds of others. Replicas say themselves whether they have changed (``Tracked.version``).
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from models.control.catalog import Entry
from models.control.history import FRESH_S
from models.control.mirror import but_for_use
from models.control.tracked import Tracked
from models.store.records import ModelRecord, ModelRoute, ReplicaRecord
from packers.types import Model, ModelId, Replica, ReplicaId

QUIET_FRESH_S = 10.0
AT_ONCE = 4
HEAR_EVERY_S = 0.1
Shown = tuple[ModelRoute, ModelRecord]


class Showing(NamedTuple):
    """Of all models, sorted by id. What has not changed is the same tuple as before."""

    routes: tuple[ModelRoute, ...] = ()
    records: tuple[ModelRecord, ...] = ()


class Replicas(dict[ReplicaId, Tracked]):
    """All replicas, by id and by model. Changed by ``[]``, ``del`` and ``pop`` alone."""

    def __init__(self) -> None:
        super().__init__()
        self._of_model: dict[ModelId, dict[ReplicaId, Tracked]] = {}
        self._sorted: tuple[Tracked, ...] | None = ()

    def __setitem__(self, replica: ReplicaId, tracked: Tracked) -> None:
        self.pop(replica, None)
        super().__setitem__(replica, tracked)
        self._of_model.setdefault(tracked.model, {})[replica] = tracked
        self._sorted = None

    def __delitem__(self, replica: ReplicaId) -> None:
        tracked = self[replica]
        super().__delitem__(replica)
        mine = self._of_model[tracked.model]
        del mine[replica]
        if not mine:
            del self._of_model[tracked.model]
        self._sorted = None

    def pop(self, replica: ReplicaId, *default: Any) -> Any:
        if default and replica not in self:
            return default[0]
        tracked = self[replica]
        del self[replica]
        return tracked

    def of_model(self, model: ModelId) -> list[Tracked]:
        """Sorted by id."""
        mine = self._of_model.get(model)
        return [] if mine is None else [mine[name] for name in sorted(mine)]

    @property
    def models(self) -> Collection[ModelId]:
        """Those that have any."""
        return self._of_model.keys()

    @property
    def by_id(self) -> tuple[Tracked, ...]:
        if self._sorted is None:
            self._sorted = tuple(self[name] for name in sorted(self))
        return self._sorted


class Census:
    """Owned by the loop."""

    def __init__(self) -> None:
        self._touched: set[ModelId] = set()
        self._heard: dict[ModelId, None] = {}  # in this order
        self._pressing: set[ModelId] = set()  # time alone changes what is said of them
        self._due = _Line(FRESH_S)
        self._due_quiet = _Line(QUIET_FRESH_S)
        self._heard_again = _Line(HEAR_EVERY_S)
        self._looked_s: dict[ModelId, float] = {}
        self._catalog: Mapping[ModelId, Entry] | None = None  # None: all of it is to be looked at
        self._models: dict[ModelId, Model] = {}
        self._ordered: tuple[Model, ...] = ()
        self._shown: dict[ModelId, Shown] = {}
        self._showing = Showing()
        self._in_turn: list[ModelId] = []
        self._records: dict[ReplicaId, tuple[int, ReplicaRecord]] = {}
        self._unshown: set[ModelId] = set()  # what is shown of them may be out of date
        self._replicas: dict[ReplicaId, tuple[int, Entry | None, Replica]] = {}

    def touch(self, *models: ModelId) -> None:
        """Something has happened to these."""
        self._touched.update(models)
        self._unshown.update(models)

    def hear(self, models: Iterable[ModelId], now: float) -> None:
        """Something has changed for these that can wait for its turn: until HEAR_EVERY_S after their last one."""
        for name in models:
            if now - self._looked_s.get(name, -math.inf) < HEAR_EVERY_S:
                self._heard_again.add(name, now)
            else:
                self._heard[name] = None

    def take_some(self) -> None:
        """The turn of some of those that can wait has come."""
        for name in list(itertools.islice(self._heard, AT_ONCE)):
            del self._heard[name]
            self._touched.add(name)

    @property
    def presses(self) -> bool:
        """Something is to be looked at that others have to wait for."""
        return bool(self._touched or self._pressing)

    @property
    def behind(self) -> bool:
        """There is more to be looked at than a step has time for."""
        return bool(self._heard)

    def touch_all(self) -> None:
        self._catalog = None

    def due(self, catalog: Mapping[ModelId, Entry], now: float) -> set[ModelId]:
        """The models that are to be looked at again; they stay so until ``models`` is called."""
        if self._catalog is not catalog:
            self._catalog = catalog
            for known in (self._models, self._looked_s):
                for gone in known.keys() - catalog.keys():
                    del known[gone]
            self._touched, self._unshown = set(catalog), set(catalog)
            self._heard.clear()
        for line in (self._due, self._due_quiet):
            self._heard.update(dict.fromkeys(line.pop(now)))
        self.hear(self._heard_again.pop(now), now)
        self._touched &= catalog.keys()
        self._pressing &= catalog.keys()
        return self._touched | self._pressing

    def models(
        self,
        catalog: Mapping[ModelId, Entry],
        look: Callable[[Entry], Model],
        age: Callable[[Model], Model],
        replicas: Replicas,
        now: float,
    ) -> tuple[Model, ...]:
        """All of them as they are now, sorted by id. ``look``: how one is; ``age``: how one is to which nothing has
        happened but that somebody still waits."""
        news = False
        for name in self.due(catalog, now):
            before = self._models.get(name)
            model = look(catalog[name]) if before is None or name in self._touched else age(before)
            if model != before:
                self._models[name], news = model, True
            self._plan(model, quiet=name not in replicas.models, now=now)
        self._looked_s.update(dict.fromkeys(self._touched, now))
        self._touched = set()
        if news or len(self._ordered) != len(self._models):
            self._ordered = tuple(self._models[name] for name in sorted(self._models))
        return self._ordered

    def _plan(self, model: Model, *, quiet: bool, now: float) -> None:
        demand = model.demand
        if demand.held or demand.operator_wake:
            self._pressing.add(model.id)
        else:
            self._pressing.discard(model.id)
        (self._due_quiet if quiet and not demand.present else self._due).add(model.id, now)

    def replicas(
        self, catalog: Mapping[ModelId, Entry], replicas: Replicas, look: Callable[[Tracked, Entry | None], Replica]
    ) -> tuple[Replica, ...]:
        """All of them as they are now, sorted by id. To be asked before ``models``: what has become of a replica is
        something that has happened to its model."""
        before, after = self._replicas, {}
        for tracked in replicas.by_id:
            entry, known = catalog.get(tracked.model), before.get(tracked.id)
            if known is None or known[0] != tracked.version or known[1] is not entry:
                found = tracked.version, entry, look(tracked, entry)
                self._changed(None if known is None else known[2], found[2])
                known = found
            after[tracked.id] = known
        for gone in before.keys() - after.keys():
            self.touch(before[gone][2].model)
        self._replicas = after
        return tuple([known[2] for known in after.values()])

    def _changed(self, before: Replica | None, after: Replica) -> None:
        if before is None or but_for_use(before) != but_for_use(after):
            self.touch(after.model)

    def shown(self, catalog: Mapping[ModelId, Entry], show: Callable[[Entry], Shown]) -> Showing:
        """What is shown of each model of the catalog. ``show``: what is to be shown of one."""
        if self._catalog is not catalog:
            self._unshown = set(catalog)
        self._unshown.update(self._next_in_turn(catalog))
        gone = self._shown.keys() - catalog.keys()
        for name in gone:
            del self._shown[name]
        routes_news = records_news = bool(gone)
        for name in self._unshown & catalog.keys():
            before, after = self._shown.get(name), show(catalog[name])
            routes_news |= before is None or before[0] != after[0]
            records_news |= before is None or before[1] != after[1]
            self._shown[name] = after
        self._unshown = set()
        if routes_news or records_news:
            ordered = [self._shown[name] for name in sorted(self._shown)]
            routes = tuple([route for route, _ in ordered]) if routes_news else self._showing.routes
            records = tuple([record for _, record in ordered]) if records_news else self._showing.records
            self._showing = Showing(routes, records)
        return self._showing

    def records(self, replicas: Replicas) -> tuple[ReplicaRecord, ...]:
        """As they are written down, sorted by id."""
        before, after = self._records, {}
        for tracked in replicas.by_id:
            known = before.get(tracked.id)
            if known is None or known[0] != tracked.version:
                known = tracked.version, tracked.as_record()
            after[tracked.id] = known
        self._records = after
        return tuple([record for _, record in after.values()])

    def _next_in_turn(self, catalog: Mapping[ModelId, Entry]) -> list[ModelId]:
        """Some of all: whatever nobody has thought of as something that happens is shown one day."""
        if not self._in_turn:
            self._in_turn = list(catalog)
        found, self._in_turn = self._in_turn[:AT_ONCE], self._in_turn[AT_ONCE:]
        return found


class _Line:
    """Models in the order in which their time comes, ``after_s`` from when they were added. Each is in it once."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._line: deque[tuple[float, ModelId]] = deque()
        self._there: set[ModelId] = set()

    def add(self, model: ModelId, now: float) -> None:
        if model not in self._there:
            self._there.add(model)
            self._line.append((now + self._after_s, model))

    def pop(self, now: float) -> list[ModelId]:
        line, found = self._line, []
        while line and (line[0][0] <= now or line[0][0] > now + self._after_s):  # or the clock was set back
            found.append(line.popleft()[1])
        self._there.difference_update(found)
        return found
