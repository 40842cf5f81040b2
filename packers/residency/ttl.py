"""A fixed time to live, as most keep-alives have it: whoever is past its own ``ttl_s`` goes first, furthest first.

Going at ``ttl_s`` even when nobody needs the room is ``packers.scaling``, rule 3, under every policy; its model's
``ttl_s`` says when. This policy lets the same clock choose among those who may go.
"""

from __future__ import annotations

from packers.residency.stay import Residency, Stay
from packers.types import Model


def worth(model: Model, stay: Stay) -> float:
    """Seconds it has left to live."""
    return model.ttl_s - stay.idle_s


TTL = Residency("ttl", worth, "the nearest to the end of its ttl that may go")
