"""What one decision keeps from a model because it is guaranteed to others (``packers.guarantees``).

While a model is served, what others have not used of their guarantees counts as taken, in both tallies; so every way to
find room for it finds only room that is its to use. For the next model it is another amount.
"""

from __future__ import annotations

from collections.abc import Mapping

from packers.guarantees import Guarantees, Spare, Used
from packers.ledger import Holding, Tally
from packers.state import State
from packers.types import GpuId, Model


class Withheld:
    """Of one Trial. Only GPUs on which something is guaranteed are looked at; without any, nothing is done."""

    def __init__(self, state: State) -> None:
        self._guarantees: Guarantees = state.guarantees_now()
        self._state = state
        self._tallies: tuple[Tally, Tally] = (state.index.now, state.index.soon)
        self._kept: dict[GpuId, Used] = {}
        self._for: tuple[str, ...] | None = None  # the groups of the model that was served last
        self._changed: set[GpuId] = set()  # since then
        self._more: dict[GpuId, dict[str, list[int]]] = {}  # what this decision gives to members, or takes from them

    def __bool__(self) -> bool:
        return bool(self._guarantees.on)

    def keep_from(self, model: Model | None) -> None:
        """Count as taken what is guaranteed to groups that it is not in; None: it is in none."""
        groups, on = model.groups if model is not None else (), self._guarantees.on
        looked_at, self._for = self._changed if groups == self._for else list(on), groups
        self._changed = set()
        for gpu in looked_at:
            there = on[gpu]
            mine = self._guarantees.group(gpu, groups)
            used = self._used(gpu)
            now = soon = 0
            for name, guaranteed in there.items():
                if name != mine:
                    held = used.get(name, Used())
                    now += max(0, guaranteed - held.now)
                    soon += max(0, guaranteed - held.soon)
            self._keep(gpu, Used(now, soon))

    def spare(self, gpu: GpuId, model: Model) -> Spare | None:
        """What of other groups' replicas may be evicted there for it; None: nothing is guaranteed there to others."""
        there = self._guarantees.on.get(gpu)
        if there is None:
            return None
        mine, used = self._guarantees.group(gpu, model.groups), self._used(gpu)
        beyond = {
            name: max(0, used.get(name, Used()).soon - guaranteed) for name, guaranteed in there.items() if name != mine
        }
        return Spare(beyond) if beyond else None

    def group(self, gpu: GpuId, model: Model | None) -> str | None:
        return self._guarantees.group(gpu, model.groups) if model is not None else None

    def note(self, tally: Tally, model: Model | None, holding: Holding, sign: int) -> None:
        """A replica of the model takes (1) or gives back (-1) that much by this decision."""
        if model is None or not model.groups:
            return
        for gpu in holding.gpus:
            name = self._guarantees.group(gpu, model.groups)
            if name is not None:
                self._changed.add(gpu)
                more = self._more.setdefault(gpu, {}).setdefault(name, [0, 0])
                more[0 if tally is self._tallies[0] else 1] += sign * holding.gpu_bytes

    def undo(self) -> None:
        for gpu in list(self._kept):
            self._keep(gpu, Used())

    def _used(self, gpu: GpuId) -> Mapping[str, Used]:
        found = self._guarantees.used(gpu, self._state.index, self._state.models)
        more = self._more.get(gpu)
        if not more:
            return found
        both = dict(found)
        for name, (now, soon) in more.items():
            before = both.get(name, Used())
            both[name] = Used(before.now + now, before.soon + soon)
        return both

    def _keep(self, gpu: GpuId, wanted: Used) -> None:
        before = self._kept.get(gpu, Used())
        # Where others hold some of it already there is less to be kept.
        kept = Used(*(max(0, min(w, t.gpu[gpu] + b)) for w, t, b in zip(wanted, self._tallies, before, strict=True)))
        if kept != wanted:
            self._changed.add(gpu)
        if kept == before:
            return
        node = self._state.gpus[gpu].node
        for tally, was, now in zip(self._tallies, before, kept, strict=True):
            tally.add(Holding((gpu,), node, now - was))
        if any(kept):
            self._kept[gpu] = kept
        else:
            del self._kept[gpu]
