"""Which GPU is of which pool, as the configuration says by patterns of GPU ids."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from models.catalog.service import PoolSettings
from packers.types import OWNED, Gpu, Pool, PoolId


@dataclass(frozen=True, slots=True)
class PoolBook:
    """``patterns``: in the order in which they are tried; a GPU that none fits stays in the pool it is in."""

    pools: tuple[Pool, ...] = ()
    patterns: tuple[tuple[str, PoolId], ...] = ()

    @classmethod
    def of(cls, settings: Iterable[PoolSettings]) -> PoolBook:
        given = tuple(settings)
        pools = tuple(
            Pool(PoolId(pool.name), pool.kind, pool.price_per_gpu_hour, pool.reclaims_per_hour) for pool in given
        )
        return cls(pools, tuple((pattern, PoolId(pool.name)) for pool in given for pattern in pool.gpus))

    @property
    def known(self) -> frozenset[PoolId]:
        return frozenset({OWNED, *(pool.id for pool in self.pools)})

    def pool_of(self, gpu: Gpu) -> PoolId:
        return next((pool for pattern, pool in self.patterns if fnmatch.fnmatchcase(gpu.id, pattern)), gpu.pool)
