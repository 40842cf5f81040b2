"""How much room there is for requests that nobody waits for: what is left of a model's places."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping

from models.store.records import ModelDemand, ModelRoute

UNKNOWN_SLOTS = 8  # of a replica that does not say how many requests it works on at once
LATE_S = 1.0  # by which a worker has told of what it has
LEFT_FREE = 1 / 8  # of all places, for whoever comes next and waits


def spare(route: ModelRoute, held: int, in_flight: int) -> int:
    """How many requests more the model can take now without anybody waiting for them.

    1. Somebody waits already: none. 2. It does not run: one, which starts it. 3. What is free of its replicas' places,
    less what is left free.
    """
    if held:  # 1
        return 0
    ready = [replica for replica in route.replicas if replica.state == "ready"]
    if not ready:  # 2
        return 0 if in_flight else 1
    places = sum(replica.slots or UNKNOWN_SLOTS for replica in ready)  # 3
    left_free = math.ceil(places * LEFT_FREE) if places > 1 else 0
    return max(0, places - left_free - in_flight)


class Room:
    """``find``: the route of a model by any of its names, None where there is none. ``look_up``: what all gateway
    workers together have of each model, which they tell a little late. ``now``: of the monotonic clock."""

    def __init__(
        self,
        find: Callable[[str], ModelRoute | None],
        look_up: Callable[[], Awaitable[Mapping[str, ModelDemand]]],
        now: Callable[[], float],
    ) -> None:
        self._find, self._look_up, self._now = find, look_up, now
        self._demand: Mapping[str, ModelDemand] = {}
        self._taken: Counter[str] = Counter()
        self._past: deque[tuple[float, Counter[str]]] = deque()  # what was taken at each look

    async def look(self) -> None:
        """Raises StoreUnavailable; then what is known stays in force."""
        self._demand = await self._look_up()
        now_s = self._now()
        self._past.append((now_s, self._taken.copy()))
        while self._past[0][0] < now_s - LATE_S:
            self._past.popleft()

    def take(self, model: str) -> str | None:
        """A place for one more request now, to be given back; None while there is none.

        A model that nobody has is no reason to wait: the request will be refused.
        """
        route = self._find(model)
        if route is not None:
            demand = self._demand.get(route.model_id) or ModelDemand()
            if spare(route, demand.held, self._in_flight(route, demand)) <= 0:
                return None
        place = model if route is None else route.model_id
        self._taken[place] += 1
        return place

    def give_back(self, place: str) -> None:
        self._taken[place] -= 1
        if not self._taken[place]:
            del self._taken[place]

    def _in_flight(self, route: ModelRoute, demand: ModelDemand) -> int:
        """What others have and what was taken here. How much of the latter is in the demand is not known: as little as
        it can be, so that no place is counted as free which is not."""
        least = min((taken[route.model_id] for _, taken in self._past), default=0)
        return max(0, demand.in_flight - least) + self._taken[route.model_id]
