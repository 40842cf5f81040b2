"""What replicas were seen to hold, and what the next one of the same revision is therefore to reserve.

1. What the operator declares counts; so does the wish for KV cache, declared or not: it is an order, not a guess.
2. What is only estimated is replaced by what was measured: at once where more was held, and where less was once a
   replica has been measured after it had served (memory grows with the first requests).
3. Where replicas hold more than all of that together, by more than EXCESS_SHARE, the card is wrong: then what was
   measured counts for every kind of which more was held than declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NewType

import msgspec

from models.catalog.footprint import Declared
from models.runtimes.protocol import Measured
from packers.types import Footprint, ReplicaId

EXCESS_SHARE = 0.02
LEAST_EXCESS_BYTES = 1 << 20  # less than that is no more than how memory is counted
LIVES_KEPT = 5
ENGINE_PROCESS_BYTES = 128 << 20  # private memory of an engine with next to no weights: 80 to 100 MiB, and some slack
# A revision of a model on one kind of GPU: what was measured for it holds for no other.
Revision = NewType("Revision", str)


class Held(msgspec.Struct, frozen=True):
    """Bytes on the GPU, by kind."""

    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    overhead_bytes: int = 0

    @classmethod
    def of(cls, measured: Measured, simulated: bool = False) -> Held:
        """What the driver says that the engine itself does not account for is overhead.

        On a simulated GPU private memory of the process stands for overhead. What any engine's process takes, and a
        private copy of its weights beside the mapped ones, would not be on a GPU: only what goes beyond counts.
        """
        known_bytes = measured.weights_bytes + measured.kv_cache_bytes
        overhead_bytes = max(measured.overhead_bytes, (measured.device_bytes or 0) - known_bytes)
        if simulated:
            overhead_bytes = max(0, overhead_bytes - ENGINE_PROCESS_BYTES - measured.weights_bytes)
        return cls(measured.weights_bytes, measured.kv_cache_bytes, overhead_bytes)

    @property
    def gpu_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.overhead_bytes

    def highest(self, other: Held) -> Held:
        """Kind by kind."""
        return Held(
            max(self.weights_bytes, other.weights_bytes),
            max(self.kv_cache_bytes, other.kv_cache_bytes),
            max(self.overhead_bytes, other.overhead_bytes),
        )


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """Of one revision. ``lives``: the most that each of its last replicas held; ``served``: those that were measured
    after they had served. ``residue_bytes``: the most that a sleeping one held on its GPU; None: none slept."""

    lives: dict[str, Held] = {}
    served: tuple[str, ...] = ()
    residue_bytes: int | None = None

    def highest(self) -> Held:
        top = Held()
        for held in self.lives.values():
            top = top.highest(held)
        return top


@dataclass(frozen=True, slots=True)
class Judged:
    """``footprint``: what the next replica reserves. ``origins``: kind -> declared, estimated or measured.
    ``excess_bytes``: what was held beyond what the card says, 0 within the tolerance."""

    footprint: Footprint
    origins: Mapping[str, str]
    excess_bytes: int = 0


def exceeds(held_bytes: int, reserved_bytes: int) -> bool:
    """By more than what is let pass."""
    return held_bytes - reserved_bytes > max(LEAST_EXCESS_BYTES, EXCESS_SHARE * reserved_bytes)


def grown(footprint: Footprint, held: Held) -> Footprint:
    """Each kind as large as it was found to be, none smaller than before."""
    return replace(
        footprint,
        weights_bytes=max(footprint.weights_bytes, held.weights_bytes),
        kv_cache_bytes=max(footprint.kv_cache_bytes, held.kv_cache_bytes),
        overhead_bytes=max(footprint.overhead_bytes, held.overhead_bytes),
    )


class FootprintBook:
    """Owned by the loop. Outlives the controller (``remembered``)."""

    def __init__(self) -> None:
        self._learned: dict[Revision, Learned] = {}
        self._judged: dict[Revision, Judged] = {}  # so that an unchanged model stays the same object

    def learn(self, revision: Revision, replica: ReplicaId, held: Held, *, served: bool) -> None:
        """``served``: it had answered requests before it was measured."""
        before = self._learned.get(revision, Learned())
        lives = {**before.lives, replica: held.highest(before.lives.get(replica, Held()))}
        while len(lives) > LIVES_KEPT:
            lives.pop(next(iter(lives)))
        seasoned = {*before.served, replica} if served else {*before.served}
        after = Learned(lives=lives, served=tuple(sorted(seasoned & lives.keys())), residue_bytes=before.residue_bytes)
        self._put(revision, after)

    def learn_residue(self, revision: Revision, residue_bytes: int) -> None:
        before = self._learned.get(revision, Learned())
        self._put(
            revision, msgspec.structs.replace(before, residue_bytes=max(residue_bytes, before.residue_bytes or 0))
        )

    def _put(self, revision: Revision, learned: Learned) -> None:
        if self._learned.get(revision) != learned:
            self._learned[revision] = learned
            self._judged.pop(revision, None)

    def get(self, revision: Revision) -> Learned | None:
        return self._learned.get(revision)

    def judged(self, revision: Revision, declared: Declared, said: Footprint) -> Judged:
        """``said``: by the card, declared or estimated."""
        known = self._judged.get(revision)
        if known is None:
            learned = self._learned.get(revision)
            known = self._judged[revision] = judge(declared, said, learned or Learned())
        return known

    def remembered(self) -> dict[str, Learned]:
        return {str(revision): learned for revision, learned in self._learned.items()}

    def recall(self, before: Mapping[str, Learned]) -> None:
        for name, learned in before.items():
            if name not in self._learned:
                self._put(Revision(name), learned)

    def forget(self, revision: Revision) -> None:
        """The card counts again, until more is measured."""
        self._learned.pop(revision, None)
        self._judged.pop(revision, None)

    def keep(self, revisions: Iterable[Revision]) -> None:
        """Forget all others: their cards have left the catalog, or say something else now."""
        kept = set(revisions)
        for revision in [known for known in {*self._learned, *self._judged} if known not in kept]:
            self.forget(revision)


def judge(declared: Declared, said: Footprint, learned: Learned) -> Judged:
    """The three rules of this module."""
    origins = {
        "weights": _origin(declared.weights),
        "kv_cache": _origin(declared.kv_cache),
        "overhead": _origin(declared.overhead),
        "residue": _origin(declared.residue),
        "host": _origin(declared.host),
    }
    found = _with_residue(declared, said, learned, origins)
    if not learned.lives:
        return Judged(found, origins)
    top = learned.highest()
    # 1. and 2.
    if declared.weights is None and (learned.served or top.weights_bytes > said.weights_bytes):
        origins["weights"] = "measured"
        found = replace(found, weights_bytes=top.weights_bytes)
        if declared.host is None:
            origins["host"] = "measured"
            found = replace(found, host_bytes=top.weights_bytes)
    if declared.overhead is None and (learned.served or top.overhead_bytes > said.overhead_bytes):
        origins["overhead"] = "measured"
        found = replace(found, overhead_bytes=top.overhead_bytes)
    # 3.
    if exceeds(top.gpu_bytes, found.gpu_bytes):
        after = grown(found, top)
        for kind in ("weights", "kv_cache", "overhead"):
            if getattr(after, f"{kind}_bytes") > getattr(found, f"{kind}_bytes"):
                origins[kind] = "measured"
        found = after
    excess_bytes = top.gpu_bytes - said.gpu_bytes if exceeds(top.gpu_bytes, said.gpu_bytes) else 0
    return Judged(found, origins, excess_bytes)


def _with_residue(declared: Declared, said: Footprint, learned: Learned, origins: dict[str, str]) -> Footprint:
    residue_bytes = learned.residue_bytes
    if residue_bytes is None or (declared.residue is not None and not exceeds(residue_bytes, declared.residue)):
        return said
    origins["residue"] = "measured"
    return replace(said, residue_bytes=residue_bytes)


def _origin(declared: int | None) -> str:
    return "estimated" if declared is None else "declared"
