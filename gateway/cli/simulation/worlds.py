"""The hardware and the models of a simulation: from the configuration, from a recording, or as told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.config import read_config
from gateway.cli.errors import AskedWrongly
from models.catalog.errors import UnitError
from models.catalog.gpus import parse_gpus
from models.catalog.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from gateway.cli.simulation.traces import Source
    from models.catalog.service import ServiceConfig
    from packers.sim import SimWorld, StartUp, TierTime
    from packers.types import Gpu, Model, Pool

_TIER = re.compile(r"\s*([^+]+?)\s*(?:\+\s*([^/]+?)\s*/\s*s\s*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What models are like that nothing but a trace knows. ``weights``: in turn, most called model first."""

    weights: str = "16GiB"
    kv_cache: str = "4GiB"
    overhead: str = "1.5GiB"


@dataclass(frozen=True, slots=True)
class Hardware:
    """As on the command line; ``gpus`` of each node."""

    gpus: str
    nodes: int = 1
    host_memory: str = "0"
    price_per_gpu_hour: float = 0.0
    disk_start: str | None = None
    host_start: str | None = None


def models_of_config(path: Path) -> tuple[ServiceConfig, tuple[Model, ...], dict[str, str]]:
    """The configuration, its models without demand, and every name -> id. Raises AskedWrongly."""
    from models.catalog.footprint import CUDA, SIMULATED
    from models.control.catalog import CatalogReader
    from models.control.history import History
    from models.control.reserved import Reserved
    from models.home import Home
    from packers.types import Demand

    config = read_config(path)
    defaults = SIMULATED if config.simulated_gpus is not None else CUDA
    reader = CatalogReader(path.absolute().parent, Home.find(None).weights, defaults)
    entries = reader.entries(config.models)
    for entry in entries.values():
        if entry.footprint.weights_bytes == 0:
            raise AskedWrongly(
                f"{path}: nobody knows how large {entry.id} is: its folder is not here, its weights are not declared",
                code="invalid_configuration",
                cure="declare them: declared: {weights: 16GiB}",
            )
    names = {name: entry.id for entry in entries.values() for name in entry.card.served_names}
    reserved = Reserved(config.reservations)
    models = tuple(
        entry.as_model(Demand(), 0.0, History(), groups=reserved.groups(entry.card)) for entry in entries.values()
    )
    return config, models, dict(names)


def models_of_trace(source: Source, sizes: Sizes) -> tuple[Model, ...]:
    """Of a recording: the models that were there. Else all alike but for the sizes given."""
    from packers.load import NO_LOAD, NO_MEMORY
    from packers.types import Demand, Footprint, Model
    from packers.usage import UNUSED

    if source.snapshot is not None:
        return tuple(
            replace(model, demand=Demand(), usage=UNUSED, load=NO_LOAD, scale_memory=NO_MEMORY, retry_at_s=0.0)
            for model in source.snapshot.models
        )
    weights = [_bytes(part, "--weights") for part in sizes.weights.split(",")]
    kv_bytes, overhead_bytes = _bytes(sizes.kv_cache, "--kv-cache"), _bytes(sizes.overhead, "--overhead")
    return tuple(
        Model(
            name,
            Footprint(
                weights[place % len(weights)],
                kv_bytes,
                overhead_bytes,
                host_bytes=weights[place % len(weights)],
            ),
        )
        for place, name in enumerate(source.trace.busiest(len(source.trace.names)))
    )


def build(hardware: Hardware, models: Sequence[Model], config: ServiceConfig | None) -> SimWorld:
    """Raises AskedWrongly."""
    from models.control.pools import PoolBook
    from models.control.reserved import Reserved
    from packers.sim import SimWorld
    from packers.types import OWNED, Node, NodeId, Pool

    if hardware.nodes < 1:
        raise AskedWrongly("--nodes: there has to be one at least", code="invalid_nodes")
    names = [NodeId(f"node-{number}") for number in range(hardware.nodes)]
    host_bytes = _bytes(hardware.host_memory, "--host-memory")
    pools = PoolBook.of(config.pools if config else ())
    gpus = tuple(replace(gpu, pool=pools.pool_of(gpu)) for gpu in _gpus(hardware, names))
    owned = Pool(OWNED, price_per_gpu_hour=hardware.price_per_gpu_hour)
    return SimWorld(
        gpus=gpus,
        nodes=tuple(Node(name, host_bytes) for name in names),
        models=tuple(models),
        pools=_with_owned(pools.pools, owned),
        guarantees=Reserved(config.reservations if config else ()).guarantees(gpus),
        startup=startup(hardware, models),
    )


def startup(hardware: Hardware, models: Sequence[Model]) -> StartUp:
    """As told (``8s+3GB/s``: eight seconds and the weights at 3 GB/s), else as fits what was measured of the models
    (those of a recording), else the simulator's own. Raises AskedWrongly."""
    from packers.sim import Sample, StartUp, fit_tier
    from packers.types import DEFAULT_START

    given = StartUp()
    weights = [model.footprint.weights_bytes for model in models]
    disk = [(size, model.startup.disk_s) for size, model in zip(weights, models, strict=True)]
    host = [(size, model.startup.host_s) for size, model in zip(weights, models, strict=True)]
    measured_disk = [Sample(size, took_s) for size, took_s in disk if took_s != DEFAULT_START.disk_s]
    measured_host = [Sample(size, took_s) for size, took_s in host if took_s != DEFAULT_START.host_s]
    given = replace(
        given,
        disk=fit_tier(measured_disk) if measured_disk else given.disk,
        host=fit_tier(measured_host) if measured_host else given.host,
    )
    return replace(
        given,
        disk=given.disk if hardware.disk_start is None else _tier(hardware.disk_start, "--disk-start"),
        host=given.host if hardware.host_start is None else _tier(hardware.host_start, "--host-start"),
    )


def _gpus(hardware: Hardware, names: Iterable[str]) -> Iterable[Gpu]:
    from packers.types import Gpu, GpuId, NodeId

    if not hardware.gpus:
        raise AskedWrongly("name the GPUs", code="usage", cure="--gpus 8x80GiB")
    try:
        sizes = parse_gpus(hardware.gpus)
    except UnitError as error:
        raise AskedWrongly(f"--gpus: {error.message}", code="invalid_gpus", cure=error.cure) from None
    for node in names:
        for index, memory_bytes in enumerate(sizes):
            yield Gpu(GpuId(f"{node}/{index}"), NodeId(node), index, memory_bytes)


def _with_owned(pools: tuple[Pool, ...], owned: Pool) -> tuple[Pool, ...]:
    return pools if any(pool.id == owned.id for pool in pools) else (*pools, owned)


def _tier(text: str, option: str) -> TierTime:
    from packers.sim import TierTime

    match = _TIER.fullmatch(text)
    try:
        if match is None:
            raise ValueError(f"{text!r} is no start time")
        fixed_s = parse_seconds(match[1])
        return TierTime(fixed_s) if match[2] is None else TierTime(fixed_s, float(parse_bytes(match[2])))
    except (UnitError, ValueError) as error:
        raise AskedWrongly(f"{option}: {error}", code="invalid_start", cure="write it like 8s or 8s+3GB/s") from None


def _bytes(text: str, option: str) -> int:
    try:
        return parse_bytes(int(text) if text.isdigit() else text)
    except UnitError as error:
        raise AskedWrongly(f"{option}: {error.message}", code="invalid_size", cure=error.cure) from None
