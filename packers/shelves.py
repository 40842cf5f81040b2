"""Who may be evicted for whom. These rules hold whatever the eviction policy is.

A replica may be evicted for a needing model unless
1. it is pinned, or its model is;
2. it is busy (requests in flight), starting, on its way out already, or woken by this very decision;
3. it is ready and its model has demand that it is wanted for. Beyond the number of replicas that the demand asks for,
   an idle one may go, but only for another model's first replica;
4. it is ready and without it its model would have fewer than ``min_replicas``, unless the needing model has strictly
   higher priority;
5. it has higher priority than the needing model, unless callers of that model are waiting and it has no replica at
   all: an idle replica, however important, does not keep a request waiting. Priority then only says who goes first;
6. it is asleep and its model is about to wake it. It may go all the same when callers of the needing model are
   waiting and it has no replica at all: two sleeping models must not block each other for good;
7. it is ready and of the needing model itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from packers.eviction import Harm, Shelf, Victim
from packers.explain import size
from packers.ledger import holds
from packers.placement import CANDIDATES_SHOWN
from packers.scaling import last_use_s
from packers.trial import Trial, wake_bytes
from packers.types import Candidate, Gpu, Model, ModelId, Replica, ReplicaState


@dataclass(frozen=True, slots=True)
class Need:
    """One replica that a model lacks. ``number`` counts from 1: the first one ends the waiting, more share the load."""

    model: Model
    number: int
    why: str

    @property
    def first(self) -> bool:
        return self.number == 1

    @property
    def urgent(self) -> bool:
        """Somebody waits, and nothing serves."""
        return self.first and self.model.demand.present


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a model from the GPU that comes closest: ``blockers`` with why each cannot go.

    ``would_do``: the blockers after whose leaving it would fit; empty when pinned ones make that impossible.
    """

    gpu: Gpu
    blockers: tuple[tuple[Replica, str], ...]
    would_do: tuple[Replica, ...]
    promised_to: tuple[ModelId, ...]


def bytes_needed(need: Need, gpu: Gpu, trial: Trial) -> tuple[int, Replica | None] | None:
    """GPU bytes that the needed replica takes there, and the sleeper that would wake. None: the GPU is too small."""
    sleeper = trial.sleeper_on(need.model, gpu)
    if sleeper is not None:
        return wake_bytes(sleeper), sleeper
    needs_bytes = need.model.footprint.gpu_bytes
    return (needs_bytes, None) if needs_bytes <= gpu.memory_bytes else None


def shelves(need: Need, trial: Trial) -> list[Shelf]:
    """Every GPU where evicting all that may go would make room, by GPU id."""
    found = []
    for gpu in trial.gpus:
        needed = bytes_needed(need, gpu, trial)
        if needed is None or gpu.id in trial.closed:
            continue
        needs_bytes, sleeper = needed
        free_bytes = trial.soon.free_gpu(gpu.id)
        if free_bytes + trial.idle_bytes[gpu.id] < needs_bytes:
            continue  # only a bound, but it spares looking closely at most GPUs of a busy cluster
        victims = tuple(verdict for verdict in _verdicts(need, gpu, sleeper, trial) if isinstance(verdict, Victim))
        if free_bytes + sum(victim.frees_bytes for victim in victims) >= needs_bytes:
            found.append(Shelf(gpu, needs_bytes, free_bytes, sleeper, victims))
    return found


def rejected(need: Need, chosen: list[Shelf], trial: Trial) -> list[Candidate]:
    """A few of the GPUs where eviction would not help, and why."""
    helped = {shelf.gpu.id for shelf in chosen}
    others = [gpu for gpu in trial.gpus if gpu.id not in helped][:CANDIDATES_SHOWN]
    return [Candidate(gpu.id, trial.soon.free_gpu(gpu.id), rejected=_hindrance(need, gpu, trial)) for gpu in others]


def obstacle(need: Need, trial: Trial) -> Obstacle | None:
    """Looks at the GPU that comes closest, one not barred by pinned replicas first. None when all are too small."""
    ranked = []
    for gpu in trial.gpus:
        needed = bytes_needed(need, gpu, trial)
        if needed is not None:
            barred = trial.pinned_bytes[gpu.id] + needed[0] > gpu.memory_bytes
            ranked.append((barred, needed[0] - trial.soon.free_gpu(gpu.id), gpu, needed))
    if not ranked:
        return None
    _, short_bytes, gpu, (needs_bytes, sleeper) = min(ranked, key=lambda rank: (rank[0], rank[1], rank[2].id))
    verdicts = _verdicts(need, gpu, sleeper, trial)
    blockers = tuple(verdict for verdict in verdicts if not isinstance(verdict, Victim))
    free_bytes = needs_bytes - short_bytes
    free_bytes += sum(verdict.frees_bytes for verdict in verdicts if isinstance(verdict, Victim))
    would_do = []
    for replica, _ in sorted(blockers, key=lambda blocker: blocker[0].id):
        if free_bytes < needs_bytes and not trial.pinned(replica):
            would_do.append(replica)
            free_bytes += holds(replica)[0]
    fits = free_bytes >= needs_bytes
    return Obstacle(gpu, blockers, tuple(would_do) if fits else (), tuple(trial.promised.get(gpu.id, ())))


def _verdicts(need: Need, gpu: Gpu, sleeper: Replica | None, trial: Trial) -> list[Victim | tuple[Replica, str]]:
    """Each replica on the GPU, longest unused first: a victim, or why it is none."""
    spare: dict[ModelId, int] = {}
    found: list[Victim | tuple[Replica, str]] = []
    for replica in trial.on_gpu[gpu.id]:
        frees_bytes = holds(replica)[0]
        if not frees_bytes or replica.id in trial.going or (sleeper is not None and replica.id == sleeper.id):
            continue
        why_not, harm = _judge(need, replica, spare, trial)
        if why_not is not None:
            found.append((replica, why_not))
            continue
        asleep = replica.state is ReplicaState.ASLEEP
        found.append(Victim(replica, asleep, frees_bytes, last_use_s(replica), trial.priority(replica), harm))
    return found


def _judge(need: Need, replica: Replica, spare: dict[ModelId, int], trial: Trial) -> tuple[str | None, Harm]:
    # 1. and 2.
    if trial.pinned(replica):
        return "pinned", Harm.NONE
    if replica.state is ReplicaState.STARTING or replica.id in trial.taken:
        return "starting", Harm.NONE
    if replica.in_flight:
        return "busy", Harm.NONE
    # 5.
    if not need.urgent and trial.priority(replica) > need.model.priority:
        return "of higher priority", Harm.NONE
    if replica.state is ReplicaState.ASLEEP:
        return _judge_sleeper(need, replica, trial)
    return _judge_ready(need, replica, spare, trial)


def _judge_sleeper(need: Need, replica: Replica, trial: Trial) -> tuple[str | None, Harm]:
    # 6.
    desired = trial.desired.get(replica.model)
    wanted = replica.model != need.model.id and desired is not None and desired.missing > 0
    if not wanted:
        return None, Harm.NONE
    return (None, Harm.WAITING) if need.urgent else ("about to be woken", Harm.NONE)


def _judge_ready(need: Need, replica: Replica, spare: dict[ModelId, int], trial: Trial) -> tuple[str | None, Harm]:
    # 7.
    if replica.model == need.model.id:
        return "its own", Harm.NONE
    model = trial.models.get(replica.model)
    if model is None:
        return None, Harm.NONE
    # 3.
    left = spare.setdefault(model.id, trial.ready(model.id) - trial.desired[model.id].count)
    if model.demand.present and (left <= 0 or not need.first):
        return "wanted by callers", Harm.NONE
    if left > 0:
        spare[model.id] = left - 1
        return None, Harm.NONE
    # 4.
    if need.model.priority > model.priority:
        return None, Harm.MINIMUM
    return "kept by min_replicas", Harm.NONE


def _hindrance(need: Need, gpu: Gpu, trial: Trial) -> str:
    needed = bytes_needed(need, gpu, trial)
    if needed is None:
        return f"too small: {size(gpu.memory_bytes)}"
    verdicts = _verdicts(need, gpu, needed[1], trial)
    in_the_way = [f"{one[0].model} is {one[1]}" for one in verdicts if not isinstance(one, Victim)]
    return "; ".join(dict.fromkeys(in_the_way)) or "its free memory is promised to others"
