"""The fleet as the controller last wrote it down, as Prometheus gauges: what alarms are made of (docs/operations.md).

Every worker shows the same ones: take one, do not add them up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.store.age import age_s
from models.store.records import FleetRecord, GpuRecord, ModelRecord

CONTROLLER_SILENT_SECONDS = "roundhouse_controller_silent_seconds"
NODES = "roundhouse_nodes"
GPUS = "roundhouse_gpus"
GPU_MEMORY_BYTES = "roundhouse_gpu_memory_bytes"
GPU_RESERVED_BYTES = "roundhouse_gpu_reserved_bytes"
REPLICAS = "roundhouse_replicas"
MODEL_FAILED = "roundhouse_model_failed"
CONFIG_REJECTED = "roundhouse_config_rejected"
PROBLEMS = "roundhouse_problems"
NODE_STATES = ("ready", "away", "leaving", "lost")
GPU_STATES = ("ready", "cordoned", "lost")


def render(fleet: FleetRecord | None, catalog: Iterable[ModelRecord], now_unix_s: float) -> bytes:
    """As Prometheus text; nothing where no controller has written anything yet."""
    if fleet is None:
        return b""
    registry = CollectorRegistry()
    registry.register(FleetCollector(fleet, catalog, now_unix_s))
    return generate_latest(registry)


class FleetCollector(Collector):
    def __init__(self, fleet: FleetRecord, catalog: Iterable[ModelRecord], now_unix_s: float) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._now_unix_s = now_unix_s

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        fleet = self._fleet
        silent_s = age_s(fleet, self._now_unix_s)
        yield _one(CONTROLLER_SILENT_SECONDS, "Since the controller last wrote its state.", silent_s)
        yield _by_state(NODES, "Nodes.", NODE_STATES, Counter(node.state for node in fleet.nodes))
        yield _by_state(GPUS, "GPUs.", GPU_STATES, Counter(map(_gpu_state, fleet.gpus)))
        yield self._gpu_bytes(GPU_MEMORY_BYTES, "Memory of a GPU.", "memory_bytes")
        yield self._gpu_bytes(GPU_RESERVED_BYTES, "Memory of a GPU that replicas have reserved.", "reserved_bytes")
        yield self._replicas()
        yield self._failures()
        rejected = float(fleet.config_error is not None)
        yield _one(CONFIG_REJECTED, "1 while the configuration on disk is not taken.", rejected)
        yield _one(PROBLEMS, "What `roundhouse status` tells operators to see to.", len(fleet.problems))

    def _gpu_bytes(self, name: str, text: str, field: str) -> Metric:
        family = GaugeMetricFamily(name, text, labels=("gpu", "node", "simulated"))
        for gpu in self._fleet.gpus:
            family.add_metric((gpu.id, gpu.node, str(gpu.simulated).lower()), getattr(gpu, field))
        return family

    def _replicas(self) -> Metric:
        family = GaugeMetricFamily(REPLICAS, "Replicas.", labels=("model", "state"))
        for (model, state), count in sorted(Counter((one.model_id, one.state) for one in self._fleet.replicas).items()):
            family.add_metric((model, state), count)
        return family

    def _failures(self) -> Metric:
        """``permanent``: trying again is of no use before something is changed."""
        family = GaugeMetricFamily(
            MODEL_FAILED, "1 while the last start of a model has failed.", labels=("model", "code", "permanent")
        )
        for record in self._catalog:
            if record.failure is not None:
                family.add_metric((record.model_id, record.failure.code, str(record.failure.permanent).lower()), 1)
        return family


def _gpu_state(gpu: GpuRecord) -> str:
    if gpu.lost:
        return "lost"
    return "cordoned" if gpu.cordoned else "ready"


def _one(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric((), value)
    return family


def _by_state(name: str, text: str, states: Iterable[str], found: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("state",))
    for state in states:
        family.add_metric((state,), found.get(state, 0))
    return family
