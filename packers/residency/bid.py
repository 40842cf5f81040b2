"""Host RAM goes to whoever is worth most there: a replica that falls asleep has to outbid those that sleep already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packers.residency.stay import Residency, Stay, Tier
from packers.types import Model


@dataclass(frozen=True, slots=True)
class Bid:
    """A copy of ``model`` that takes, or would take, ``size_bytes`` of host RAM. ``name`` breaks ties."""

    name: str
    model: Model | None
    priority: int
    size_bytes: int
    last_use_s: float
    since_s: float


def outbid(bidder: Bid, others: Sequence[Bid], short_bytes: int, now_s: float, residency: Residency) -> tuple[Bid, ...]:
    """Whom of ``others`` to end so that ``bidder`` gets the ``short_bytes`` that it lacks, cheapest first.

    Empty if they are worth more than it, or too small even together. Lower priority always gives way.
    """
    worth = _worth(bidder, now_s, residency)
    ranked = []
    for one in others:
        mine = _worth(one, now_s, residency)
        if one.priority < bidder.priority or (one.priority == bidder.priority and mine < worth):
            price = mine / max(1, one.size_bytes) if residency.adds_up else mine
            ranked.append((one.priority, price, one.name, mine, one))
    ranked.sort(key=lambda rank: rank[:3])
    chosen = []
    for rank in ranked:
        if short_bytes <= 0:
            break
        chosen.append(rank)
        short_bytes -= rank[4].size_bytes
    if short_bytes > 0:
        return ()
    for rank in reversed(chosen.copy()):
        if short_bytes + rank[4].size_bytes <= 0:
            chosen.remove(rank)
            short_bytes += rank[4].size_bytes
    lost = sum(rank[3] for rank in chosen if rank[0] == bidder.priority)
    return () if residency.adds_up and lost >= worth else tuple(rank[4] for rank in chosen)


def _worth(bid: Bid, now_s: float, residency: Residency) -> float:
    return residency.value(bid.model, Stay(Tier.HOST, now_s, bid.last_use_s, bid.since_s, bid.size_bytes))
