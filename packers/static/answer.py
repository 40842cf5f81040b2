"""What the static solver answers: where everything goes, and how far from the best possible that is at most."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from packers.types import ModelId


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """Replica number ``replica`` (from 0) of a model, on these GPUs of a node (both from 0)."""

    node: int
    gpus: tuple[int, ...]
    model: ModelId
    replica: int


@dataclass(frozen=True, slots=True)
class Answer:
    """``gpus`` GPUs, on ``nodes`` nodes of ``gpus_per_node``, hold everything; none holds it with fewer than
    ``gpus_at_least`` GPUs or ``nodes_at_least`` nodes.

    ``by_node``: nodes play a part (groups span GPUs, models keep apart), and nodes is what was made as few as possible;
    else GPUs. ``spots`` by node and GPU.
    """

    spots: tuple[Spot, ...]
    gpus_per_node: int
    nodes: int
    nodes_at_least: int
    gpus: int
    gpus_at_least: int
    by_node: bool = False

    @property
    def bins(self) -> int:
        """What was made as few as possible."""
        return self.nodes if self.by_node else self.gpus

    @property
    def at_least(self) -> int:
        return self.nodes_at_least if self.by_node else self.gpus_at_least

    @property
    def proved(self) -> bool:
        """Whether no packing takes fewer."""
        return self.bins <= self.at_least

    @property
    def over_bound(self) -> float:
        """0.01: one percent more than the bound."""
        return self.bins / self.at_least - 1.0 if self.at_least else 0.0


class Verdict(StrEnum):
    FITS = "fits"  # every replica has its spot
    CANNOT = "cannot"  # proved: there is no way to place them all
    NOT_FOUND = "not found"  # no way was found, none was ruled out


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether everything goes on the given nodes. ``left_out``: replicas without a spot, by model.

    ``gpus_at_least``: how many GPUs, even if all were like the largest, are needed; ``why``: what rules it out.
    """

    verdict: Verdict
    spots: tuple[Spot, ...]
    left_out: tuple[tuple[ModelId, int], ...]
    gpus: int
    gpus_at_least: int
    why: str = ""
