"""What has to be evicted to make room for one replica: on one GPU, or on several of one node for a group.

1. A replica on one GPU: the best eviction by the policy.
2. A group that sleeps is woken where it sleeps, if evicting there does no more harm than starting one elsewhere would.
3. A new group goes where the policy finds the GPUs that are cheapest to clear: GPUs are ranked by the policy as if each
   stood alone, and the node whose last needed GPU ranks best is taken.
4. Memory may be enough while compute, or the node's CPU cores, are not: then more of those that may go on these GPUs
   have to, the largest claim first; and if that does not do, the next best place is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from packers.eviction import Eviction, EvictionPolicy, Harm, Victim
from packers.limits import Limits
from packers.shelves import shelf_on, shelves
from packers.trial import Trial
from packers.types import GpuId, NodeId, Replica
from packers.verdicts import Need


@dataclass(frozen=True, slots=True)
class Clearing:
    """``parts``: what leaves each GPU of the replica's group. ``wakes``: who wakes there, None for a start.

    ``ranked``: every eviction that was weighed, best first.
    """

    parts: tuple[Eviction, ...]
    wakes: Replica | None
    ranked: tuple[Eviction, ...]

    @property
    def gpus(self) -> tuple[GpuId, ...]:
        return tuple(part.shelf.gpu.id for part in self.parts)


def clearings(need: Need, where: Limits, trial: Trial, policy: EvictionPolicy) -> Clearing | None:
    """None: nobody may go, or not enough of them."""
    ranked = policy(shelves(need, where, trial))
    if need.model.tensor_parallel == 1:
        # 1.
        ways = (Clearing((best,), best.shelf.wakes, ranked) for best in ranked)
        return next((whole for way in ways if (whole := _with_claims(need, way, trial)) is not None), None)
    # 2. and 3.
    woken = _group_that_sleeps(need, where, trial, policy)
    started = _group_to_start(need, ranked, trial)
    if woken is not None and (started is None or _harm(woken) <= _harm(started)):
        return woken
    return started


def _group_that_sleeps(need: Need, where: Limits, trial: Trial, policy: EvictionPolicy) -> Clearing | None:
    if need.replaces is not None:
        return None
    found = []
    for sleeper in trial.sleepers(need.model.id):
        there = [trial.gpu[gpu] for gpu in sleeper.gpus]
        if any(where.refusal(gpu) is not None for gpu in there):
            continue
        parts = [shelf for gpu in there if (shelf := shelf_on(need, gpu, sleeper, trial)) is not None]
        chosen = [eviction for part in parts for eviction in policy([part])[:1]]
        if len(chosen) == len(there):
            whole = _with_claims(need, Clearing(tuple(chosen), sleeper, tuple(chosen)), trial)
            found += [whole] if whole is not None else []
    return min(found, key=lambda one: (_harm(one), max(part.score for part in one.parts), one.gpus), default=None)


def _group_to_start(need: Need, ranked: Sequence[Eviction], trial: Trial) -> Clearing | None:
    of_node: dict[NodeId, list[Eviction]] = {}
    for eviction in ranked:
        there = of_node.setdefault(eviction.shelf.gpu.node, [])
        there.append(eviction)
        if len(there) == need.model.tensor_parallel:
            parts = tuple(sorted(there, key=lambda part: part.shelf.gpu.id))
            whole = _with_claims(need, Clearing(parts, None, tuple(ranked)), trial)
            if whole is not None:
                return whole
    return None


def _harm(clearing: Clearing) -> tuple[int, int]:
    victims = [victim for part in clearing.parts for victim in part.victims]
    harm = max((victim.harm for victim in victims), default=Harm.NONE)
    return harm, max((victim.priority for victim in victims), default=0)


def _with_claims(need: Need, clearing: Clearing, trial: Trial) -> Clearing | None:
    """With as many more victims as compute and CPU take; None when all together are not enough."""
    # 4.
    footprint = (clearing.wakes or need.model).footprint
    if not footprint.compute_milli and not footprint.cpu_milli:
        return clearing
    parts = []
    for part in clearing.parts:
        free_milli = trial.soon.compute[part.shelf.gpu.id]
        more = _more(part, footprint.compute_milli - free_milli, trial.held_milli)
        if more is None:
            return None
        parts.append(more)
    node = clearing.parts[0].shelf.gpu.node
    if not footprint.cpu_milli or not trial.index.nodes[node].cpu_milli:
        return replace(clearing, parts=tuple(parts))
    short_milli = footprint.cpu_milli * len(parts) - trial.soon.cpu[node]
    for place, part in enumerate(parts):
        others = _freed([*parts[:place], *parts[place + 1 :]], trial.held_cpu_milli)
        more = _more(part, short_milli - others, trial.held_cpu_milli)
        if more is not None:
            parts[place] = more
            return replace(clearing, parts=tuple(parts))
    return None


def _more(part: Eviction, needed_milli: int, claim: Callable[[Replica], int]) -> Eviction | None:
    """``part`` with further victims until theirs is ``needed_milli`` together."""
    chosen: list[Victim] = list(part.victims)
    others = [victim for victim in part.shelf.victims if victim not in chosen and claim(victim.replica)]
    others.sort(key=lambda one: (one.harm, -claim(one.replica), one.replica.id))
    while _freed([replace(part, victims=tuple(chosen))], claim) < needed_milli:
        if not others:
            return None
        chosen.append(others.pop(0))
    return replace(part, victims=tuple(chosen))


def _freed(parts: Sequence[Eviction], claim: Callable[[Replica], int]) -> int:
    leave = {victim.replica.id: victim.replica for part in parts for victim in part.victims}
    return sum(claim(replica) for replica in leave.values())
