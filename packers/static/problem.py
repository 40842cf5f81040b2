"""What is to be packed and into what. Sizes are whole bytes, compute is thousandths of a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from packers.types import ModelId

MOST_BYTES = 2**42  # of one GPU: four times 2**40 leaves room for exact arithmetic in 64 bits
MOST_MILLI = 10**9
MOST_REPLICAS = 1_000_000


class ProblemError(ValueError):
    """What cannot be packed by anybody. ``field`` of the item or GPU is wrong; ``model``: whose, if it is an item's.

    ``most``: the most that would have been possible, where that is what is wrong.
    """

    def __init__(self, field: str, message: str, model: ModelId | None = None, most: int | None = None) -> None:
        super().__init__(f"{f'{model}: ' if model is not None else ''}{field} {message}")
        self.field = field
        self.message = message
        self.model = model
        self.most = most


@dataclass(frozen=True, slots=True)
class Item:
    """A model that shall serve with so many replicas at once.

    Each takes ``memory_bytes`` and ``compute_milli`` on each of ``gpus`` GPUs of one node. It shares no node with the
    models it is ``apart_from``; its own id keeps its replicas on different nodes. Raises ProblemError.
    """

    model: ModelId
    memory_bytes: int
    replicas: int = 1
    compute_milli: int = 0
    gpus: int = 1
    apart_from: frozenset[ModelId] = frozenset()

    def __post_init__(self) -> None:
        limits = {
            "memory_bytes": (0, MOST_BYTES),
            "replicas": (0, MOST_REPLICAS),
            "compute_milli": (0, MOST_MILLI),
            "gpus": (1, 1024),
        }
        for field, (least, most) in limits.items():
            _check(field, getattr(self, field), least, most, self.model)


@dataclass(frozen=True, slots=True)
class GpuSize:
    """Raises ProblemError."""

    memory_bytes: int
    compute_milli: int = 1000

    def __post_init__(self) -> None:
        _check("memory_bytes", self.memory_bytes, 1, MOST_BYTES)
        _check("compute_milli", self.compute_milli, 0, MOST_MILLI)


Node = tuple[GpuSize, ...]


def ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    """By model, so that the order given plays no part. Raises ProblemError for a model given twice."""
    found = sorted(items, key=lambda item: item.model)
    for one, other in pairwise(found):
        if one.model == other.model:
            raise ProblemError("model", "is given twice", one.model)
    return tuple(item for item in found if item.replicas > 0)


def check_fits(items: Iterable[Item], nodes: Sequence[Node]) -> None:
    """Raises ProblemError for an item that no node could hold even if it were empty."""
    for item in items:
        most = max((_hosts(item, node) for node in nodes), default=0)
        if most >= item.gpus:
            continue
        memory_bytes = max((gpu.memory_bytes for node in nodes for gpu in node), default=0)
        compute_milli = max((gpu.compute_milli for node in nodes for gpu in node), default=0)
        if item.memory_bytes > memory_bytes:
            said = f"({item.memory_bytes}) is more than the largest GPU has ({memory_bytes})"
            raise ProblemError("memory_bytes", said, item.model, memory_bytes)
        if item.compute_milli > compute_milli:
            said = f"({item.compute_milli}) is more than the largest GPU has ({compute_milli})"
            raise ProblemError("compute_milli", said, item.model, compute_milli)
        raise ProblemError("gpus", f"({item.gpus}) is more than any node has of this size ({most})", item.model, most)


def _hosts(item: Item, node: Node) -> int:
    return sum(item.memory_bytes <= gpu.memory_bytes and item.compute_milli <= gpu.compute_milli for gpu in node)


def _check(field: str, value: object, least: int, most: int, model: ModelId | None = None) -> None:
    # Whole numbers only: this also refuses NaN, and a size in the wrong unit would seldom be whole.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProblemError(field, f"must be a whole number, got {value!r}", model)
    if not least <= value <= most:
        raise ProblemError(field, f"must be from {least} to {most}, got {value}", model)
