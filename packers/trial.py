"""The scratch layer in which one decision is tried out, on top of a State that it leaves as it was.

There are two tallies. ``now`` is what is free at this moment: only that may be started or woken into. ``soon`` is what
will be free once everything on its way out is gone, less what this decision promises to models that wait for that.
Memory that is free now but promised is not free: ``free_gpu`` is the smaller of the two.

What a decision enters goes into the State's own tallies, so that nothing has to be copied; ``undo`` takes it out again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf

from packers.columns import Columns
from packers.explain import names, span
from packers.guarantees import Spare
from packers.ledger import Holding, Tally, awake, host_bytes
from packers.limits import Limits, limits
from packers.no_room import no_room
from packers.placement import Spot
from packers.scaling import Standing
from packers.spots import ask_of, candidates, place
from packers.state import State
from packers.types import (
    Candidate,
    Footprint,
    Gpu,
    GpuId,
    Model,
    ModelId,
    NodeId,
    NoFit,
    Replica,
    ReplicaId,
    ReplicaState,
    Snapshot,
)
from packers.withheld import Withheld

LOOK_AT = 32  # GPUs of a cluster that is looked at as a whole


class Going(Collection[ReplicaId]):
    """Replicas that leave already, or by this decision."""

    def __init__(self, leaving: Mapping[ReplicaId, Replica], own: set[ReplicaId]) -> None:
        self._leaving, self._own = leaving, own

    def __contains__(self, replica: object) -> bool:
        return replica in self._own or replica in self._leaving

    def __iter__(self) -> Iterator[ReplicaId]:
        return iter(self._own.union(self._leaving))

    def __len__(self) -> int:
        return len(self._own.union(self._leaving))


class Trial:
    """One decision's view. The State must not change before ``undo``.

    ``look_at``: so many GPUs are looked at closely at a time; in a larger cluster its columns say which ones first.
    """

    def __init__(self, state: State, now_s: float, look_at: int = LOOK_AT, placement: str = "best-fit") -> None:
        state.settle()
        self.look_at, self.placement = look_at, placement
        self.patience_s: float | None = None  # the bound on waiting, if there is one
        self.rest_s = 0.0  # from one eviction on a GPU to the next
        self.now_s = now_s
        self.state = state
        self.index = state.index
        self.now, self.soon = state.index.now, state.index.soon
        self.gpu: Mapping[GpuId, Gpu] = state.gpus
        self.models: Mapping[ModelId, Model] = state.models
        self.desired: Mapping[ModelId, Standing] = state.outlook.standings
        self.wanting: Collection[ModelId] = state.outlook.wanting
        self.due: list[ModelId] = state.outlook.due.due(now_s)
        self._left: set[ReplicaId] = set()  # by this decision
        self.going = Going(state.index.leaving, self._left)
        self.taken: set[ReplicaId] = set()  # woken by this decision, or promised to be
        self.resized: set[ReplicaId] = set()
        self.promised: dict[GpuId, list[ModelId]] = {}
        self.closed: set[GpuId] = set()  # nobody may be evicted there any more
        self.entered: dict[ModelId, set[NodeId]] = {}  # nodes to which this decision brings models
        self._now_of: dict[ReplicaId, Holding] = {}  # where it is not what the index says
        self._soon_of: dict[ReplicaId, Holding] = {}
        self._ready_less: dict[ModelId, int] = {}
        self._swapped: set[GpuId] = set()  # by this decision
        self._withheld = Withheld(state)
        self._log: list[tuple[Tally, Holding, bool]] = []
        self._idle_log: list[tuple[GpuId, int]] = []

    @classmethod
    def of(cls, snapshot: Snapshot) -> Trial:
        """Raises LedgerError when the snapshot contradicts itself."""
        return cls(State.of(snapshot), snapshot.now_s)

    def undo(self) -> None:
        """Leave the State as it was before."""
        self._withheld.undo()
        for tally, holding, added in self._log:
            (tally.remove if added else tally.add)(holding)
        for gpu, idle_bytes in self._idle_log:
            self.index.idle_bytes[gpu] += idle_bytes
        self._log.clear()
        self._idle_log.clear()

    # What is kept from whom

    def serve(self, model: Model | None) -> None:
        """From now on there is room for this model: what is guaranteed to others counts as taken."""
        if self._withheld:
            self._withheld.keep_from(model)

    def spare(self, gpu: GpuId, model: Model) -> Spare | None:
        """What of others' guarantees may be evicted there for it; None: there are none."""
        return self._withheld.spare(gpu, model) if self._withheld else None

    def group(self, gpu: GpuId, replica: Replica) -> str | None:
        """Whose guarantee the replica uses there."""
        return self._withheld.group(gpu, self.models.get(replica.model))

    def resting(self, gpu: GpuId) -> bool:
        """Replicas were evicted there for others not long ago, or by this decision: no more for now."""
        if not self.rest_s:
            return False
        return gpu in self._swapped or self.now_s < self.state.swapped.get(gpu, -inf) + self.rest_s

    def swap(self, gpu: GpuId) -> None:
        """Replicas are evicted there by this decision."""
        self._swapped.add(gpu)

    # What is there

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """By id."""
        return self.index.order

    @property
    def large(self) -> bool:
        return len(self.index.order) > self.look_at

    @property
    def columns(self) -> Columns:
        """For clusters too large to be looked at GPU by GPU."""
        return self.state.columns_now(self.priority)

    def limits(self, model: Model) -> Limits:
        """Where it may go at all, as things are now."""
        return limits(model, self.index, self.state.surroundings, self.entered)

    def spot(self, model: Model, footprint: Footprint, where: Limits, soon: bool = False) -> Spot | None:
        """Where the placement policy puts a new replica, in what is free at once or, ``soon``, will be."""
        if not self._may_fit(model, footprint, where, soon):
            return None
        spots = self.state.spots_now(self.placement)
        return place(spots.soon() if soon else spots.at_once(), ask_of(model, footprint), where)

    def candidates(self, model: Model, footprint: Footprint, where: Limits, spot: Spot) -> tuple[Candidate, ...]:
        """What was looked at for ``spot``, before anything is entered there."""
        placer = self.state.spots_now(self.placement).at_once()
        return candidates(placer, ask_of(model, footprint), where, spot, self.free_gpu)

    def no_room(self, model: Model, footprint: Footprint, where: Limits) -> NoFit:
        """Why there is no spot."""
        plain = model.tensor_parallel == 1 and where.none
        gpus = self.columns.shortlist(footprint.gpu_bytes) if self.large and plain else self.gpus
        return no_room(model, footprint, gpus, where, self.free_gpu, self.now)

    def _may_fit(self, model: Model, footprint: Footprint, where: Limits, soon: bool) -> bool:
        """A quick look: most of the time a full cluster has no room for anything."""
        if self.large:
            return True
        needs_bytes, now, later = footprint.gpu_bytes, self.now.gpu, self.soon.gpu
        found: dict[NodeId, int] = {}
        for gpu in self.gpus:
            if later[gpu.id] >= needs_bytes and (soon or now[gpu.id] >= needs_bytes) and where.refusal(gpu) is None:
                found[gpu.node] = found.get(gpu.node, 0) + 1
                if found[gpu.node] >= model.tensor_parallel:
                    return True
        return False

    def on_gpu(self, gpu: GpuId) -> list[Replica]:
        """Longest unused first."""
        return self.index.on_gpu(gpu)

    def idle_on(self, gpu: GpuId) -> list[tuple[Replica, int, float]]:
        """Those neither busy, pinned, starting nor leaving, with the bytes that they hold and their last use."""
        return self.index.idle_on(gpu)

    def held_bytes(self, replica: Replica) -> int:
        """GPU bytes that it holds on each of its GPUs."""
        return self.index.held(replica.id).now.gpu_bytes

    def held_milli(self, replica: Replica) -> int:
        """Thousandths of each of its GPUs' compute that it claims."""
        return self.index.held(replica.id).now.compute_milli

    def held_cpu_milli(self, replica: Replica) -> int:
        """Thousandths of its node's CPU cores that it claims."""
        return self.index.held(replica.id).now.cpu_milli

    def if_gone(self, replicas: Sequence[Replica]) -> str:
        """What it would mean if they left: "if b slept: 1 s to wake it", "if b and c stopped: 12 s to start them"."""
        models = [model for one in replicas if (model := self.models.get(one.model)) is not None]
        sleep = len(models) == len(replicas) and all(model.can_sleep for model in models)
        sleep = sleep and all(self.free_host_soon(one) >= host_bytes(one) for one in replicas)
        back_s = max((model.startup.host_s if sleep else model.startup.disk_s for model in models), default=0.0)
        how, back = ("slept", "wake") if sleep else ("stopped", "start")
        them = "it" if len(replicas) == 1 else "them"
        gone = f"if {names(one.model for one in replicas)} {how}"
        return f"{gone}: {span(back_s)} to {back} {them} again" if models else gone

    def asleep_on(self, node: NodeId) -> list[Replica]:
        """Replicas that sleep there and are not being ended, in no order."""
        return [one for one in self.index.asleep_on[node].values() if one.id not in self._left]

    def idle_bytes(self, gpu: GpuId) -> int:
        """An upper bound of what evictions can free there."""
        return self.index.idle_bytes[gpu]

    def pinned_bytes(self, gpu: GpuId) -> int:
        return self.index.pinned_bytes[gpu]

    def free_gpu(self, gpu: GpuId) -> int:
        """Bytes that may be used at once: free now, and promised to nobody."""
        return min(self.now.free_gpu(gpu), self.soon.free_gpu(gpu))

    def free_host(self, replica: Replica) -> int:
        """Bytes of host RAM on the replica's node that may be used at once."""
        node = self.gpu[replica.gpu].node
        return min(self.now.free_host(node), self.soon.free_host(node))

    def free_host_soon(self, replica: Replica) -> int:
        return self.soon.free_host(self.gpu[replica.gpu].node)

    def priority(self, replica: Replica) -> int:
        """The catalog's word counts; a replica of a model that is in no catalog any more has its own."""
        model = self.models.get(replica.model)
        return replica.priority if model is None else model.priority

    def pinned(self, replica: Replica) -> bool:
        model = self.models.get(replica.model)
        return replica.pinned or (model is not None and model.pinned)

    def ready(self, model: ModelId) -> int:
        """Replicas that serve and stay."""
        return self.index.ready.get(model, 0) - self._ready_less.get(model, 0)

    def sleepers(self, model: ModelId, falling_asleep: bool = False) -> list[Replica]:
        """Replicas that can be woken; with ``falling_asleep`` also idle ones that drain towards sleep."""
        mine = self.index.of_model.get(model)
        if not mine:
            return []
        free = [one for one in mine.values() if one.id not in self.taken]
        found = [one for one in free if one.state is ReplicaState.ASLEEP and one.id not in self.going]
        if falling_asleep:
            found += [one for one in free if falls_asleep(one) and one.in_flight == 0]
        return found

    def left_after_wake(self, sleeper: Replica, gpus: Sequence[GpuId], soon: bool = False) -> int | None:
        """Free bytes that stay on ``gpus`` together when it wakes there. None: there is no room."""
        footprint, left_bytes = sleeper.footprint, 0
        for gpu in gpus:
            free_bytes = self.soon.gpu[gpu] if soon else self.free_gpu(gpu)
            free_bytes -= wake_bytes(sleeper, gpu)
            if free_bytes < 0 or not self._carries(gpu, footprint, soon):
                return None
            left_bytes += free_bytes
        cpu_milli = footprint.cpu_milli * len(gpus)
        return left_bytes if self._feeds(self.gpu[gpus[0]].node, cpu_milli, soon) else None

    def carries(self, model: Model, gpus: Sequence[GpuId]) -> bool:
        """There will be the compute and the CPU cores for a replica there."""
        footprint = model.footprint
        cpu_milli = footprint.cpu_milli * len(gpus)
        enough = all(self._carries(gpu, footprint, soon=True) for gpu in gpus)
        return enough and self._feeds(self.gpu[gpus[0]].node, cpu_milli, soon=True)

    def berths(self, sleeper: Replica, soon: bool = False) -> list[tuple[GpuId, ...]]:
        """Where it could wake if there is room: where it sleeps, and elsewhere on the node if its model allows that."""
        model = self.models.get(sleeper.model)
        places = [] if any(self.gpu[gpu].shut for gpu in sleeper.gpus) else [sleeper.gpus]
        if model is not None and model.wakes_anywhere:
            free = self.soon.free_gpu if soon else self.free_gpu
            others = [gpu for gpu in self.index.of_node(self.gpu[sleeper.gpu].node) if not gpu.shut]
            fits = [gpu for gpu in others if free(gpu.id) >= wake_bytes(sleeper, gpu.id)]
            fits.sort(key=lambda gpu: (free(gpu.id) - wake_bytes(sleeper, gpu.id), gpu.id))
            if len(fits) >= len(sleeper.gpus):
                places.append(tuple(gpu.id for gpu in fits[: len(sleeper.gpus)]))
        return places

    def sleepers_by_gpu(self, model: Model, where: Limits) -> dict[GpuId, Replica]:
        """Of a model on single GPUs: the sleeping replica that would be woken on each, the one that needs least."""
        found: dict[GpuId, Replica] = {}
        for one in self.sleepers(model.id):
            here = self.gpu[one.gpu]
            for gpu in self.index.of_node(here.node) if model.wakes_anywhere else (here,):
                other = found.get(gpu.id)
                if where.refusal(gpu) is None and (other is None or _easier(one, other, gpu.id)):
                    found[gpu.id] = one
        return found

    # What this decision does

    def start(self, model: Model, gpus: tuple[GpuId, ...], footprint: Footprint) -> None:
        wanted = awake(footprint, gpus, self.gpu[gpus[0]].node, footprint.gpu_bytes)
        for tally in (self.now, self.soon):
            self._reserve(tally, ReplicaId(f"start/{model.id}"), model.id, wanted)
        self._enter(model.id, wanted.node)

    def promise(self, model: Model, gpus: tuple[GpuId, ...], footprint: Footprint) -> None:
        """Keep room for ``model`` once what leaves the GPUs is gone."""
        wanted = awake(footprint, gpus, self.gpu[gpus[0]].node, footprint.gpu_bytes)
        self._promise(model, wanted)
        self._enter(model.id, wanted.node)

    def close(self, model: Model, gpu: GpuId) -> None:
        """Keep whatever room there is or will be for ``model``, although it is not enough yet."""
        self._promise(model, Holding((gpu,), self.gpu[gpu].node, self.soon.free_gpu(gpu)))
        self.closed.add(gpu)

    def _promise(self, model: Model, wanted: Holding) -> None:
        self._reserve(self.soon, ReplicaId(f"promise/{model.id}"), model.id, wanted)
        for gpu in wanted.gpus:
            self.promised.setdefault(gpu, []).append(model.id)

    def wake(self, replica: Replica, gpus: tuple[GpuId, ...]) -> None:
        # The copy in host RAM, and what is left on GPUs that it does not wake on, count until the snapshot says that
        # they are gone.
        node = self.gpu[gpus[0]].node
        for there in (tuple(gpu for gpu in gpus if (gpu in replica.gpus) is home) for home in (True, False)):
            if there:
                more_bytes = wake_bytes(replica, there[0])
                self._reserve(self.now, replica.id, replica.model, awake(replica.footprint, there, node, more_bytes))
        self.promise_wake(replica, gpus)

    def promise_wake(self, replica: Replica, gpus: tuple[GpuId, ...]) -> None:
        self._change_soon(replica, self._awake(replica, gpus, 0))
        self.taken.add(replica.id)
        self._enter(replica.model, self.gpu[gpus[0]].node)

    def resize(self, replica: Replica, kv_cache_bytes: int) -> None:
        """What a KV cache gives back is free once that is done; what it grows by is taken at once."""
        more_bytes = kv_cache_bytes - replica.footprint.kv_cache_bytes
        self.resized.add(replica.id)
        held = self.index.held(replica.id)
        if more_bytes > 0:
            self._change(replica, held.now._replace(gpu_bytes=held.now.gpu_bytes + more_bytes))
        self._change_soon(replica, held.soon._replace(gpu_bytes=held.soon.gpu_bytes + more_bytes))

    def sleep(self, replica: Replica) -> None:
        self._change(replica, self._awake(replica, replica.gpus, host_bytes(replica)))
        self.sleep_later(replica)

    def sleep_later(self, replica: Replica) -> None:
        """It will sleep as soon as there is host RAM for it: until then it stays as it is."""
        self._leave(replica, replica.footprint.residue_bytes, host_bytes(replica))

    def stop(self, replica: Replica) -> None:
        self._leave(replica, 0, 0)

    def _leave(self, replica: Replica, gpu_bytes: int, in_host_bytes: int) -> None:
        held = self.index.held(replica.id)
        self._change_soon(replica, Holding(replica.gpus, held.now.node, gpu_bytes, in_host_bytes))
        self._left.add(replica.id)
        if replica.state is ReplicaState.READY:
            self._ready_less[replica.model] = self._ready_less.get(replica.model, 0) + 1
        for gpu in replica.gpus:
            self.index.idle_bytes[gpu] -= held.idle_bytes
            self._idle_log.append((gpu, held.idle_bytes))

    def _awake(self, replica: Replica, gpus: tuple[GpuId, ...], in_host_bytes: int) -> Holding:
        footprint = replica.footprint
        return awake(footprint, gpus, self.gpu[gpus[0]].node, footprint.gpu_bytes, in_host_bytes)

    def _enter(self, model: ModelId, node: NodeId) -> None:
        self.entered.setdefault(model, set()).add(node)

    def _carries(self, gpu: GpuId, footprint: Footprint, soon: bool) -> bool:
        milli = footprint.compute_milli
        return not milli or (milli <= self.soon.compute[gpu] and (soon or milli <= self.now.compute[gpu]))

    def _feeds(self, node: NodeId, cpu_milli: int, soon: bool) -> bool:
        if not cpu_milli or not self.index.nodes[node].cpu_milli:
            return True
        return cpu_milli <= self.soon.cpu[node] and (soon or cpu_milli <= self.now.cpu[node])

    def _change(self, replica: Replica, wanted: Holding) -> None:
        before = self._now_of.get(replica.id) or self.index.held(replica.id).now
        self._now_of[replica.id] = wanted
        self._reserve(self.now, replica.id, replica.model, wanted, before)

    def _change_soon(self, replica: Replica, wanted: Holding) -> None:
        before = self._soon_of.get(replica.id) or self.index.held(replica.id).soon
        self._soon_of[replica.id] = wanted
        self._reserve(self.soon, replica.id, replica.model, wanted, before)

    def _reserve(
        self, tally: Tally, name: ReplicaId, model: ModelId, wanted: Holding, before: Holding | None = None
    ) -> None:
        tally.check(name, wanted, before)
        if self._withheld:
            self._withheld.note(tally, self.models.get(model), wanted, 1)
        if before is not None:
            tally.remove(before)
            self._log.append((tally, before, False))
            if self._withheld:
                self._withheld.note(tally, self.models.get(model), before, -1)
        tally.add(wanted)
        self._log.append((tally, wanted, True))


def falls_asleep(replica: Replica) -> bool:
    return replica.state is ReplicaState.DRAINING and replica.draining_to is ReplicaState.ASLEEP


def wake_bytes(replica: Replica, gpu: GpuId | None = None) -> int:
    """GPU bytes that waking it takes, on a GPU where it sleeps on top of what it left behind when it fell asleep."""
    if gpu is not None and gpu not in replica.gpus:
        return replica.footprint.gpu_bytes
    return max(0, replica.footprint.gpu_bytes - replica.footprint.residue_bytes)


def _easier(one: Replica, other: Replica, gpu: GpuId) -> bool:
    return (wake_bytes(one, gpu), one.id) < (wake_bytes(other, gpu), other.id)
