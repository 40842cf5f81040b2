"""Recorded decisions, decided once more: production and policies in this tree have to agree, action by action."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from packers.decide import Policies, decide
from packers.types import Action, Hold, Plan, Refuse, Resize, Snapshot, Wake

Recorded = tuple[Snapshot, Policies, Plan]


@dataclass(frozen=True, slots=True)
class Difference:
    """In the decision ``snapshot_id``, the ``number``-th of the recording (from 0), at place ``place`` of the plan.

    None: that plan has no action there. ``place`` None: the plans differ in what autoscaling is to remember.
    """

    number: int
    snapshot_id: str
    place: int | None
    recorded: Action | None
    decided: Action | None

    def __str__(self) -> str:
        where = f"decision {self.number} (snapshot {self.snapshot_id})"
        if self.place is None:
            return f"{where}: other memories"
        return f"{where}, action {self.place}: recorded {self.recorded}, now {self.decided}"


def replay(recorded: Iterable[Recorded], policies: Policies | None = None) -> list[Difference]:
    """What differs; empty when every decision comes out as it was recorded, words and scores included.

    With ``policies`` those decide instead of the recorded ones: "what would have been done otherwise?" Then only what
    is done counts, not how it is worded.
    """
    found: list[Difference] = []
    for number, (snapshot, used, plan) in enumerate(recorded):
        decided = decide(snapshot, policies or used)
        found += _differences(number, plan, decided, exact=policies is None)
    return found


def _differences(number: int, recorded: Plan, decided: Plan, exact: bool) -> Iterator[Difference]:
    before = recorded.actions if exact else tuple(_deeds(recorded))
    now = decided.actions if exact else tuple(_deeds(decided))
    for place in range(max(len(before), len(now))):
        one = before[place] if place < len(before) else None
        other = now[place] if place < len(now) else None
        if one != other:
            yield Difference(number, recorded.snapshot_id, place, one, other)
    if exact and recorded.memories != decided.memories:
        yield Difference(number, recorded.snapshot_id, None, None, None)


def _deeds(plan: Plan) -> Iterator[Action]:
    """What is done, without the words."""
    for action in plan.actions:
        if isinstance(action, Hold | Refuse):
            continue
        if isinstance(action, Wake | Resize):
            yield replace(action, reason="")
        else:
            yield replace(action, reason="", candidates=())
