"""Memory that is guaranteed to groups of models: nobody else takes it, whether it is free or held by the group itself.

On each GPU, where a group is guaranteed R and its members hold U bytes:

    the sum over the groups of max(R, U), and what all others hold, is at most the GPU's memory

So what a group is guaranteed is always free or its own: nobody has to be asked for it. A model may use what is free
less what other groups have not used of theirs, max(0, R - U) each; of another group's members only as much may be
evicted for it as they hold beyond R. Where the memory is taken already when a guarantee begins, it comes about as
members need it, by evictions like any others.

1. A model that is in several groups uses, on each GPU, the first of those that have a guarantee there.
2. Guarantees that are more than a GPU has are cut off, the last ones first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from packers.index import Index
from packers.types import Gpu, GpuId, Guarantee, Model, ModelId

KEPT_FOR = "kept for "


class Used(NamedTuple):
    """Bytes of a GPU that the members of a group hold: now, and once what leaves is gone."""

    now: int = 0
    soon: int = 0


class Guarantees:
    """Owned by a State."""

    def __init__(self) -> None:
        self.listed: tuple[Guarantee, ...] = ()
        self.on: dict[GpuId, dict[str, int]] = {}  # the bytes of each group, in the order in which they count
        self._used: dict[GpuId, dict[str, Used]] = {}
        self._barred: dict[tuple[tuple[str, ...], int], frozenset[GpuId]] = {}
        self._memory: dict[GpuId, int] = {}
        self._built_for: Sequence[Gpu] | None = None

    def put(self, listed: Iterable[Guarantee]) -> None:
        self.listed = tuple(listed)
        self._built_for = None

    def fit(self, gpus: Sequence[Gpu]) -> None:
        """To these GPUs, the same object as long as they are the same."""
        if self._built_for is gpus:
            return
        # 2.
        self._memory = {gpu.id: gpu.memory_bytes for gpu in gpus} if self.listed else {}
        self.on = {}
        for one in self.listed:
            if one.gpu in self._memory:
                there = self.on.setdefault(one.gpu, {})
                left_bytes = self._memory[one.gpu] - sum(there.values())
                there[one.group] = there.get(one.group, 0) + min(one.gpu_bytes, left_bytes)
        self._built_for = gpus
        self._barred.clear()
        self._used.clear()

    def forget(self, gpus: Iterable[GpuId] | None = None) -> None:
        """What is held there has changed, or (None) whose it is."""
        if gpus is None:
            self._used.clear()
            return
        for gpu in gpus:
            self._used.pop(gpu, None)

    def group(self, gpu: GpuId, groups: Sequence[str]) -> str | None:
        """The one whose guarantee a member of ``groups`` uses there."""
        # 1.
        return next((name for name in self.on.get(gpu, ()) if name in groups), None) if groups else None

    def used(self, gpu: GpuId, index: Index, models: Mapping[ModelId, Model]) -> dict[str, Used]:
        """By group; groups that hold nothing may be missing. Not to be changed."""
        found = self._used.get(gpu)
        if found is None:
            found = self._used[gpu] = {}
            for replica in index.on_gpu(gpu):
                model = models.get(replica.model)
                name = self.group(gpu, model.groups) if model is not None else None
                if name is not None:
                    before, held = found.get(name, Used()), index.held(replica.id)
                    found[name] = Used(before.now + held.now.gpu_bytes, before.soon + held.soon.gpu_bytes)
        return found

    def barred(self, model: Model, gpus: Sequence[Gpu]) -> frozenset[GpuId]:
        """Of these GPUs those without room for it even if all that is not guaranteed to others were empty."""
        if not self.listed:
            return frozenset()
        self.fit(gpus)
        key = (model.groups, model.footprint.gpu_min_bytes)
        found = self._barred.get(key)
        if found is None:
            found = self._barred[key] = frozenset(
                gpu
                for gpu, there in self.on.items()
                if self._memory[gpu] - _others(there, self.group(gpu, model.groups)) < key[1]
            )
        return found


def _others(there: Mapping[str, int], mine: str | None) -> int:
    return sum(guaranteed for name, guaranteed in there.items() if name != mine)


class Spare:
    """What may be evicted of each group on one GPU for a model that is in another or in none."""

    def __init__(self, beyond: Mapping[str, int]) -> None:
        """``beyond``: what each of the other groups holds more than it is guaranteed."""
        self._beyond = dict(beyond)

    def frees(self, group: str | None, held_bytes: int) -> int:
        """Bytes that the needing model gets when a replica of ``group`` with so many leaves, after all that were asked
        about before."""
        if group is None or group not in self._beyond:
            return held_bytes
        found = min(held_bytes, self._beyond[group])
        self._beyond[group] -= found
        return found
