"""A placement score for models that come and go where nothing is moved: what stays free, and what is kept in use.

score = share of the GPU that stays free + weight / (replicas there + 1)
weight = mean free share of the GPUs in use x (mean number of replicas on them - 1)

The first term is best fit. The second is how much longer the GPU is in use for the new one's sake: with n + 1 replicas
whose remaining lives are exponential and alike, the last one leaves 1 / (n + 1) of a mean life later than the last of
n would (the expected maximum of n exponentials is the harmonic number H(n)). Best fit alone takes a GPU with one small
replica as readily as one with six: the first would have been empty soon, the other not.

The weight makes the two terms alike in size for a typical GPU, so that neither drowns the other: nothing is to be
tuned, and it follows the mix as it changes. Where little is free, space is what counts; where replicas sit alone on
their GPUs (mean 1), no lives are shared and the weight is 0. An empty GPU is opened only when no other has room.

That lengthening a server's use is the cost of a placement comes from dynamic bin packing with departures (Li, Tang and
Cai, "Dynamic bin packing for on-demand cloud resource allocation", IEEE TPDS 27, 2016); here expectations take the
place of known departure times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packers.types import GpuId


@dataclass(frozen=True, slots=True)
class Seat:
    """A GPU with what a placement needs to know of it. ``replicas``: how many hold memory there."""

    gpu: GpuId
    memory_bytes: int
    free_bytes: int
    replicas: int


def weight(seats: Sequence[Seat]) -> float:
    """What 1 / (replicas + 1) counts against a share of free memory, in the cluster as it is."""
    used = [seat for seat in seats if seat.replicas > 0]
    if not used:
        return 0.0
    free_share = sum(seat.free_bytes / max(1, seat.memory_bytes) for seat in used) / len(used)
    return free_share * (sum(seat.replicas for seat in used) / len(used) - 1)


def score(seat: Seat, needs_bytes: int, open_weight: float) -> float:
    """Lower is better. ``open_weight``: ``weight`` of all seats."""
    return (seat.free_bytes - needs_bytes) / max(1, seat.memory_bytes) + open_weight / (seat.replicas + 1)


def choose(seats: Sequence[Seat], needs_bytes: int) -> Seat | None:
    """The seat for a new replica; ties go to the smaller GPU id. None: no GPU has room."""
    open_weight = weight(seats)
    fit = [seat for seat in seats if seat.free_bytes >= needs_bytes]
    return min(
        fit, key=lambda seat: (seat.replicas == 0, score(seat, needs_bytes, open_weight), seat.gpu), default=None
    )
