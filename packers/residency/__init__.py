"""What stays on the GPUs, what falls to host RAM, what is brought back ahead of time.

A policy says what keeping a copy is worth. ``packers.eviction`` asks it on the GPUs, ``packers.retire`` in host RAM,
``packers.residency.prewarm`` for what to bring back. All of them are pure: what they know of the past is the model's
``Usage``. One file each, with its source. ``packers.residency.patience`` bounds what any of them may do.
"""

from __future__ import annotations

from packers.residency.bid import Bid, outbid
from packers.residency.gdsf import GDSF
from packers.residency.hybrid import HYBRID
from packers.residency.lru import LRU
from packers.residency.ours import OURS
from packers.residency.rate import RATE
from packers.residency.stay import Residency, Stay, Tier, Worth
from packers.residency.ttl import TTL

RESIDENCY: dict[str, Residency] = {one.name: one for one in (LRU, TTL, GDSF, RATE, HYBRID, OURS)}

__all__ = ["LRU", "OURS", "RESIDENCY", "Bid", "Residency", "Stay", "Tier", "Worth", "outbid"]
