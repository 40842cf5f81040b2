"""The controller's figures as Prometheus metrics. Every worker shows the same ones: take one, do not add them up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from models.store.records import ControlMeters

TRANSITION_SECONDS = "roundhouse_transition_seconds"
ESTIMATE_ERROR_SECONDS = "roundhouse_estimate_error_seconds"
ESTIMATED_SECONDS = "roundhouse_estimated_seconds_total"
QUARANTINED = "roundhouse_quarantined_total"
REPLICAS_LOST = "roundhouse_replicas_lost_total"
FOOTPRINT_EXCESS_BYTES = "roundhouse_footprint_excess_bytes"


def render(meters: ControlMeters | None) -> bytes:
    """As Prometheus text; nothing where they are not known."""
    if meters is None:
        return b""
    registry = CollectorRegistry()
    registry.register(ControlCollector(meters))
    return generate_latest(registry)


class ControlCollector(Collector):
    def __init__(self, meters: ControlMeters) -> None:
        self._meters = meters

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield self._transitions()
        yield self._estimate_errors()
        yield self._estimated()
        yield _by_model(
            CounterMetricFamily(
                QUARANTINED, "Replicas that computed other tokens than they should.", labels=("model",)
            ),
            self._meters.quarantined,
        )
        yield _by_model(
            CounterMetricFamily(REPLICAS_LOST, "Replicas that ended without being asked to.", labels=("model",)),
            self._meters.lost,
        )
        yield _by_model(
            GaugeMetricFamily(
                FOOTPRINT_EXCESS_BYTES,
                "GPU memory that a model's replicas were measured to hold beyond what its card says.",
                labels=("model",),
            ),
            self._meters.excess_bytes,
        )

    def _transitions(self) -> Metric:
        """``tier``: that the transition began from."""
        family = HistogramMetricFamily(
            TRANSITION_SECONDS,
            "Starts, wakes, sleeps and stops of replicas, from the order until done.",
            labels=("model", "transition", "tier"),
        )
        bounds = [*(f"{bound_s:g}" for bound_s in self._meters.bounds_s), "+Inf"]
        for meter in self._meters.transitions:
            buckets = list(zip(bounds, map(float, meter.counts), strict=True))
            family.add_metric((meter.model_id, meter.transition, meter.tier), buckets, meter.sum_s)
        return family

    def _estimate_errors(self) -> Metric:
        """Divide the rate of its sum by that of ``roundhouse_estimated_seconds_total`` for the relative error."""
        family = HistogramMetricFamily(
            ESTIMATE_ERROR_SECONDS,
            "How far the measured time of a transition was from what it had been estimated to take, either way.",
            labels=("model", "transition"),
        )
        bounds = [*(f"{bound_s:g}" for bound_s in self._meters.bounds_s), "+Inf"]
        for meter in self._meters.estimates:
            buckets = list(zip(bounds, map(float, meter.counts), strict=True))
            family.add_metric((meter.model_id, meter.transition), buckets, meter.sum_s)
        return family

    def _estimated(self) -> Metric:
        family = CounterMetricFamily(
            ESTIMATED_SECONDS,
            "What transitions were estimated to take, summed up; of those that are done.",
            labels=("model", "transition"),
        )
        for meter in self._meters.estimates:
            family.add_metric((meter.model_id, meter.transition), meter.estimated_s)
        return family


def _by_model(
    family: CounterMetricFamily | GaugeMetricFamily, values: dict[str, int]
) -> CounterMetricFamily | GaugeMetricFamily:
    for model, value in values.items():
        family.add_metric((model,), value)
    return family
