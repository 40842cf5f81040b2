"""Which GPU is of which pool."""

from __future__ import annotations

from models.catalog.service import PoolSettings
from models.control.pools import PoolBook
from packers.types import OWNED, Gpu, GpuId, NodeId, PoolId, PoolKind


def gpu(name: str, pool: PoolId = OWNED) -> Gpu:
    return Gpu(GpuId(name), NodeId(name.split("/")[0]), 0, 1, pool=pool)


def test_the_first_pattern_that_fits_names_the_pool() -> None:
    book = PoolBook.of(
        [
            PoolSettings(name="spot", kind=PoolKind.SPOT, price_per_gpu_hour=1.5, gpus=("cloud/gpu-1",)),
            PoolSettings(name="cloud", kind=PoolKind.BURST, price_per_gpu_hour=4, gpus=("cloud/*", "other/*")),
        ]
    )
    assert [pool.id for pool in book.pools] == ["spot", "cloud"]
    assert book.pools[0].price_per_gpu_hour == 1.5
    assert book.pools[0].kind is PoolKind.SPOT
    assert book.pool_of(gpu("cloud/gpu-1")) == "spot"
    assert book.pool_of(gpu("cloud/gpu-2")) == "cloud"
    assert book.pool_of(gpu("other/gpu-0")) == "cloud"


def test_a_gpu_that_nobody_names_stays_where_it_is() -> None:
    assert PoolBook().pool_of(gpu("n/gpu-0")) == OWNED
    assert PoolBook().pool_of(gpu("n/gpu-0", PoolId("rented"))) == "rented"
