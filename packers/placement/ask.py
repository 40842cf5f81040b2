"""What is to be placed (Ask), where it goes (Spot), and why it goes nowhere (NoSpot)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Integral

from packers.types import Candidate, GpuId, NodeId

AMOUNTS = ("gpu_bytes", "compute_milli", "cpu_milli", "host_bytes")
WHOLE_GPU_MILLI = 1000


class PlacementError(ValueError):
    """Something that cannot be placed, taken or given back as it is said. Nothing has changed when it is raised."""


def whole_number(owner: str, name: str, value: object, least: int = 0) -> int:
    """``value``, if it is a whole number of at least ``least``. Raises PlacementError; NaN is no whole number."""
    if isinstance(value, Integral) and int(value) >= least:
        return int(value)
    raise PlacementError(f"{owner}.{name} must be a whole number of at least {least}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Ask:
    """What one replica needs. ``gpu_bytes`` and ``compute_milli`` are per GPU, the rest for all of it.

    ``gpus``: how many GPUs of one node it spans (a tensor-parallel group); 0 for something that needs none.
    ``compute_milli``: thousandths of each GPU; 1000 takes it whole. ``gpu_types``: names it runs on; empty for any.
    Equal asks are of one class: what a policy has found out for one holds for the other.
    """

    gpus: int = 1
    gpu_bytes: int = 0
    compute_milli: int = 0
    cpu_milli: int = 0
    host_bytes: int = 0
    gpu_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises PlacementError, naming the field, for amounts that are negative, NaN or no whole numbers."""
        whole_number("ask", "gpus", self.gpus)
        for name in AMOUNTS:
            whole_number("ask", name, getattr(self, name))
        if self.gpus == 0 and (self.gpu_bytes or self.compute_milli or self.gpu_types):
            raise PlacementError("ask.gpus is 0, but it asks for a share of a GPU; ask for at least 1")
        object.__setattr__(self, "gpu_types", tuple(sorted(set(self.gpu_types))))

    def for_any_type(self) -> Ask:
        return replace(self, gpu_types=()) if self.gpu_types else self


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an ask goes. ``score`` (lower is better) is the policy's own measure.

    ``candidates``: the best nodes by score, then rejected ones, each by its first GPU; filled in when asked for.
    """

    node: NodeId
    gpus: tuple[GpuId, ...]
    score: float
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class NoSpot:
    """No node has room now. ``ever``: an empty one would. ``rejections``: how many nodes each reason rules out."""

    ever: bool
    reason: str
    rejections: tuple[tuple[str, int], ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Where:
    """Limits on nodes. ``excluded`` ones are never taken; ``affine`` ones are taken before all others."""

    excluded: frozenset[NodeId] = frozenset()
    affine: frozenset[NodeId] = frozenset()

    @classmethod
    def of(cls, excluded: Iterable[NodeId] = (), affine: Iterable[NodeId] = ()) -> Where:
        return cls(frozenset(excluded), frozenset(affine))

    def __bool__(self) -> bool:
        return bool(self.excluded or self.affine)


ANYWHERE = Where()
