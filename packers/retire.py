"""How a replica leaves its GPU: to sleep in host RAM where it can be woken quickly, or for good.

1. A sleeping one is stopped.
2. One sleeps only if its model can, if sleeping frees GPU memory, and if what it leaves behind does not take the room
   that is being made (``slack_bytes``); else it is stopped.
3. There is host RAM for it on its node: it sleeps.
4. There will be, when sleeping replicas that are being ended are gone: it stays until then.
5. There would be, if sleeping replicas on that node were ended that are worth less, not pinned and not about to be
   woken: those are stopped, worth least first and no more than it takes, and it stays until they are gone. Lower
   priority is worth less; then the residency policy says: of worths that only have an order each has to be less than
   its own, of worths that add up all of them together (per byte of host RAM, least first).
6. Otherwise it is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from packers.explain import size
from packers.ledger import host_bytes
from packers.residency import LRU, Bid, Residency, outbid
from packers.scaling import last_use_s
from packers.trial import Trial
from packers.types import Replica, ReplicaId, ReplicaState


class Way(Enum):
    SLEEP = "sleep"
    SLEEP_LATER = "sleep when there is host RAM"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class WayOut:
    """``stops_first``: the sleeping replicas that make room in host RAM. ``why``: what keeps it from sleeping."""

    way: Way
    why: str = ""
    stops_first: tuple[Replica, ...] = ()


def way_out(replica: Replica, trial: Trial, slack_bytes: int | None = None, residency: Residency = LRU) -> WayOut:
    """Pure: looks at ``trial`` and changes nothing in it. ``slack_bytes`` None: nobody needs the GPU memory."""
    # 1. and 2.
    why_not = _cannot_sleep(replica, trial, slack_bytes)
    if why_not is not None:
        return WayOut(Way.STOP, why_not)
    # 3. and 4.
    needs_bytes = host_bytes(replica)
    if trial.free_host(replica) >= needs_bytes:
        return WayOut(Way.SLEEP)
    if trial.free_host_soon(replica) >= needs_bytes:
        return WayOut(Way.SLEEP_LATER)
    # 5.
    makes_room = _makes_room(replica, trial, residency)
    if makes_room:
        return WayOut(Way.SLEEP_LATER, stops_first=makes_room)
    # 6.
    node = trial.gpu[replica.gpu].node
    free_bytes = max(0, trial.free_host_soon(replica))
    return WayOut(Way.STOP, f"it needs {size(needs_bytes)} of host RAM to sleep, {node} has {size(free_bytes)} free")


def apply(replica: Replica, out: WayOut, trial: Trial) -> None:
    """Enter the way out into the trial's ledgers."""
    for sleeper in out.stops_first:
        trial.stop(sleeper)
    match out.way:
        case Way.SLEEP:
            trial.sleep(replica)
        case Way.SLEEP_LATER:
            trial.sleep_later(replica)
        case Way.STOP:
            trial.stop(replica)


def _cannot_sleep(replica: Replica, trial: Trial, slack_bytes: int | None) -> str | None:
    footprint = replica.footprint
    model = trial.models.get(replica.model)
    if replica.state is ReplicaState.ASLEEP:
        return "it sleeps already"
    if model is None:
        return "it is not in the catalog any more"
    if not model.can_sleep:
        return "its model cannot sleep"
    if footprint.residue_bytes >= footprint.gpu_bytes:
        return "sleeping would free no GPU memory"
    if slack_bytes is not None and footprint.residue_bytes > slack_bytes:
        return f"asleep it would still hold {size(footprint.residue_bytes)} there"
    return None


def _makes_room(replica: Replica, trial: Trial, residency: Residency) -> tuple[Replica, ...]:
    """The sleeping replicas to stop; empty when even all that may be stopped do not make room."""
    node = trial.gpu[replica.gpu].node
    there = [one for one in trial.asleep_on(node) if _may_end(one, trial)]
    short_bytes = host_bytes(replica) - trial.free_host_soon(replica)
    chosen = outbid(_bid(replica, trial), [_bid(one, trial) for one in there], short_bytes, trial.now_s, residency)
    by_id = {one.id: one for one in there}
    return tuple(by_id[ReplicaId(bid.name)] for bid in chosen)


def _bid(replica: Replica, trial: Trial) -> Bid:
    model = trial.models.get(replica.model)
    used_s, since_s = last_use_s(replica), replica.state_since_s
    return Bid(replica.id, model, trial.priority(replica), host_bytes(replica), used_s, since_s)


def _may_end(replica: Replica, trial: Trial) -> bool:
    if replica.state is not ReplicaState.ASLEEP or replica.id in trial.going or replica.id in trial.taken:
        return False
    desired = trial.desired.get(replica.model)
    return not trial.pinned(replica) and (desired is None or desired.missing == 0)
