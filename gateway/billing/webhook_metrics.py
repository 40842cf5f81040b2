"""How telling webhooks goes, as Prometheus metrics. Every worker shows the same ones: take one, do not add them up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.store.alerts import DELIVERED, FAILED, GIVEN_UP

WEBHOOKS = "roundhouse_webhooks_total"
WEBHOOKS_WAITING = "roundhouse_webhooks_waiting"


def render(figures: tuple[int, Mapping[str, int]] | None) -> bytes:
    """``figures``: of ``Deliveries.figures``; None where nobody can be asked."""
    if figures is None:
        return b""
    registry = CollectorRegistry()
    registry.register(_Webhooks(*figures))
    return generate_latest(registry)


class _Webhooks(Collector):
    def __init__(self, waiting: int, counts: Mapping[str, int]) -> None:
        self._waiting = waiting
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(WEBHOOKS_WAITING, "Alerts that webhooks are still to be told.", value=self._waiting)
        family = CounterMetricFamily(
            WEBHOOKS, "Tries to tell webhooks of alerts; after one that failed there are others.", labels=("outcome",)
        )
        for outcome in (DELIVERED, FAILED, GIVEN_UP):
            family.add_metric((outcome,), self._counts.get(outcome, 0))
        yield family
