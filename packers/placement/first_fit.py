"""First fit: the first node by id with room, and the first GPU of it, so that the later ones stay empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.placement.cluster import Floats
from packers.placement.rule import Candidates, NoMix
from packers.placement.targets import Targets


@dataclass(frozen=True)
class FirstFit(NoMix):
    """All candidates score 0: the Placer's order among equals decides."""

    name: str = "first-fit"

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats:
        return np.zeros(len(candidates.rows))
