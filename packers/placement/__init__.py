"""Online placement: where a replica goes, on which GPUs of which node, and why.

How to use it, for whoever owns the loop:

1. Keep one ``Cluster(gpus, nodes, pools)`` beside the other indexes, and change it as replicas come and go::

       taken = cluster.take(spot, ask)  # or cluster.hold(Taken(...)) for what is there already
       cluster.give_back(taken)  # exact; also the way to undo a trial

2. Keep one ``Placer(cluster, RULES[name], mix)`` for it. The mix says which asks are to be expected: ``Mix.of`` the
   catalog's asks with their weights, so that a decision depends on nothing but the snapshot; or ``mix.see(ask)`` for
   every ask that comes.
3. ``placer.place(ask, where, explain=True)`` is a Spot (node, GPUs, score, candidates) or a NoSpot (reason, and how
   many nodes each cause rules out). It takes nothing: a trial takes what it is given, and gives it all back later.

``Ask`` of a model: ``Ask(model.tensor_parallel, footprint.gpu_bytes, footprint.compute_milli, footprint.cpu_milli,
gpu_types=model.gpu_types)``; ``Where`` carries the nodes of its ``anti_affinity`` (excluded) and ``affinity`` (affine).

``PLACEMENT`` has the same policies behind the signature that ``decide`` uses today: (footprint, gpus, room, model).
"""

from packers.placement.ask import ANYWHERE, Ask, NoSpot, PlacementError, Spot, Where
from packers.placement.cluster import Cluster, Taken
from packers.placement.footprints import (
    ANY_MODEL,
    PLACEMENT,
    Placement,
    PlacementPolicy,
    Room,
    best_fit,
    by_rule,
    first_fit,
    no_fit,
)
from packers.placement.mix import Mix, Share
from packers.placement.placer import Placer
from packers.placement.rejections import CANDIDATES_SHOWN
from packers.placement.rule import Rule
from packers.placement.rules import RULES

__all__ = [
    "ANYWHERE",
    "ANY_MODEL",
    "CANDIDATES_SHOWN",
    "PLACEMENT",
    "RULES",
    "Ask",
    "Cluster",
    "Mix",
    "NoSpot",
    "Placement",
    "PlacementError",
    "PlacementPolicy",
    "Placer",
    "Room",
    "Rule",
    "Share",
    "Spot",
    "Taken",
    "Where",
    "best_fit",
    "by_rule",
    "first_fit",
    "no_fit",
]
