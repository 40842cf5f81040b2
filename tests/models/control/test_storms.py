"""More hot models than memory, for half an hour of virtual time: nobody waits for ever, and swaps are few (R17).

The bounds, as ``docs/packing.md`` states them. P is ``policies.patience``, S ``policies.swaps_per_minute``:
- swaps: at most S a minute and GPU;
- waits: P, and then a turn, a drain and a start for each place in the line of those that are overdue.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from models.store.records import DecisionRecord
from packers.decide import Policies
from packers.residency.patience import turn_s
from tests.models.control.scene import Scene, card
from tests.packers.worlds import PLAIN

pytestmark = pytest.mark.anyio
HALF_AN_HOUR_S = 1800.0
STEP_S = 0.25
START_S, SERVICE_S = 2.0, 0.5


class Storm(Scene):
    """Requests of every model come all the time, each takes SERVICE_S; ``waits_s``: of each that was served."""

    def __init__(self, names: str, gpus_mib: tuple[int, ...], policies: Policies, gap_s: float, **more: object) -> None:
        super().__init__([card(name, 60, **more) for name in names], gpus_mib)
        self.controller._policies = policies
        self.fleet.start_s = START_S
        self.rng, self.gap_s = Random(7), gap_s
        self.next_s = {name: self.clock() + self.rng.random() for name in names}
        self.waits_s: dict[str, list[float]] = defaultdict(list)
        self.ends_s: dict[str, list[float]] = defaultdict(list)

    def _report(self) -> None:
        now = self.clock()
        for name, at_s in self.next_s.items():
            if at_s <= now:
                if name not in self.held:
                    self.hold(name)
                self.next_s[name] = now + self.rng.expovariate(1 / self.gap_s)
        self.busy = {}
        for one, ends_s in self.ends_s.items():
            ends_s[:] = [end_s for end_s in ends_s if end_s > now]
            if ends_s:
                self.busy[one] = len(ends_s)
        super()._report()

    def _serve(self) -> None:
        now = self.clock()
        for route in self.store.routes.models:
            ready = [one.replica_id for one in route.replicas if one.state == "ready"]
            since_s = self.held.get(route.model_id)
            if ready and since_s is not None:
                self.waits_s[route.model_id].append(now - since_s)
                self.ends_s[ready[0]].append(now + SERVICE_S)
                self.used[route.model_id] = now
                del self.held[route.model_id]

    @property
    def worst_s(self) -> float:
        still = [self.clock() - since_s for since_s in self.held.values()]
        return max([*still, *(wait_s for waits_s in self.waits_s.values() for wait_s in waits_s)])

    def swaps(self) -> dict[str, list[float]]:
        """GPU -> when somebody was evicted from it for another."""
        found: dict[str, list[float]] = defaultdict(list)
        for one in self.decided("sleep", "stop"):
            if one.evicted_for is not None and one.gpu is not None and one.at_unix_s not in found[one.gpu]:
                found[one.gpu].append(one.at_unix_s)
        return found


def busiest_minute(times_s: list[float]) -> int:
    return max((sum(start <= at < start + 60 for at in times_s) for start in times_s), default=0)


def place_in_line_s(policies: Policies) -> float:
    """A turn, the drain of what is in flight and of the news of it, falling asleep, and a start."""
    assert policies.patience_s is not None
    return turn_s(START_S, policies.patience_s) + policies.rest_s + SERVICE_S + START_S + 8 * STEP_S


@pytest.mark.parametrize(("gap_s", "for_s"), [(0.01, 600.0), (5.0, HALF_AN_HOUR_S)])
async def test_six_hot_models_on_memory_for_two(gap_s: float, for_s: float) -> None:
    """With a gap of 0.01 s every one of them is busy without end, as soon as it is there: they take turns."""
    policies = replace(PLAIN, patience_s=30.0, swaps_per_minute=12.0)
    scene = Storm("abcdef", (100, 100), policies, gap_s)
    await scene.run(for_s, STEP_S)
    bound_s = 30.0 + 2 * place_in_line_s(policies)  # of four that wait two are before any, as two fit
    assert scene.worst_s <= bound_s, f"somebody waited {scene.worst_s:.1f} s"
    for gpu, times_s in scene.swaps().items():
        assert busiest_minute(times_s) <= 12, gpu
        between_s = [later - one for one, later in pairwise(times_s)]
        assert min(between_s) >= 60 / 12 - 1e-6
    assert all(len(waits_s) > 10 for waits_s in scene.waits_s.values()), "all of them got on"


async def test_the_rate_of_swaps_is_the_configured_one_where_starts_are_quick() -> None:
    """Wakes take 0.1 s: without a bound these two would change places several times a second."""
    worst: dict[float | None, int] = {}
    for swaps in (None, 15.0, 6.0):
        scene = Storm("ab", (100,), replace(PLAIN, patience_s=30.0, swaps_per_minute=swaps), gap_s=1.0)
        await scene.run(120, STEP_S)
        worst[swaps] = max(busiest_minute(times_s) for times_s in scene.swaps().values())
    assert worst[15.0] <= 15
    assert worst[6.0] <= 6
    assert worst[None] > 20, "the bound is what keeps it down"


async def test_a_small_patience_is_a_small_bound() -> None:
    policies = replace(PLAIN, patience_s=6.0, swaps_per_minute=60.0)
    scene = Storm("abcd", (100, 100), policies, gap_s=0.2)
    await scene.run(150, STEP_S)
    assert scene.worst_s <= 6.0 + place_in_line_s(policies)


async def test_without_patience_a_model_that_is_always_busy_keeps_its_place() -> None:
    """What the bound is for: take it away, and those that came later wait for ever."""
    scene = Storm("abc", (100,), replace(PLAIN, patience_s=None), gap_s=0.01)
    await scene.run(150, STEP_S)
    assert scene.worst_s > 120


async def test_min_replicas_pinned_and_warm_ones_keep_their_places() -> None:
    policies = replace(PLAIN, patience_s=10.0)
    scene = Storm("abcd", (100, 100, 100), policies, gap_s=0.2)
    scene.cards[0] = card("a", 60, min_replicas=1)
    scene.cards[1] = card("b", 60, pinned=True)
    scene.controller = scene._controller()
    scene.controller._policies = policies
    await scene.run(120, STEP_S)
    assert not [one for one in scene.decided("sleep", "stop") if one.model_id in ("a", "b")]
    assert {one.model_id for one in scene.decided("sleep")} == {"c", "d"}
    assert max(max(scene.waits_s[name]) for name in "cd") <= 10.0 + place_in_line_s(policies)


async def test_a_swap_says_what_it_costs_and_whom_it_delays() -> None:
    scene = Storm("ab", (100,), replace(PLAIN, patience_s=30.0), gap_s=3.0)
    await scene.run(60, STEP_S)
    swap = _last(scene.decided("sleep"))
    cost = swap.details["cost"]
    assert cost["delays"] == {swap.model_id: cost["back_s"]}
    assert cost["back_s"] == pytest.approx(0.1, abs=STEP_S), "to wake it again"
    assert cost["moved_bytes"] == 120 << 20, "its weights to RAM, and the other's from there"
    assert 0 < swap.details["estimate_s"] < 3


def _last(found: list[DecisionRecord]) -> DecisionRecord:
    return next(one for one in reversed(found) if one.evicted_for is not None)
