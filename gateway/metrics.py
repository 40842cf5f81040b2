"""Every metric of the gateway: names, labels, buckets. Never a label per key, per request or per made-up model name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    exposition,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import control_metrics
from gateway.control_metrics import ControlCollector
from gateway.exchange import OTHER_ENDPOINT, Exchange
from models.store.records import ControlMeters
from packers.types import ModelId

REQUESTS = "roundhouse_requests_total"
REQUEST_SECONDS = "roundhouse_request_seconds"
TIME_TO_FIRST_BYTE_SECONDS = "roundhouse_time_to_first_byte_seconds"
HOLD_SECONDS = "roundhouse_hold_seconds"
HELD_REQUESTS = "roundhouse_held_requests"
IN_FLIGHT_REQUESTS = "roundhouse_in_flight_requests"
UPSTREAM_RETRIES = "roundhouse_upstream_retries_total"
BROKEN_ANSWERS = "roundhouse_broken_answers_total"
ROUTES_VERSION = "roundhouse_routes_version"
STORE_UP = "roundhouse_store_up"
# Of the controller (``gateway.control_metrics``).
TRANSITION_SECONDS = control_metrics.TRANSITION_SECONDS
QUARANTINED = control_metrics.QUARANTINED
REPLICAS_LOST = control_metrics.REPLICAS_LOST
FOOTPRINT_EXCESS_BYTES = control_metrics.FOOTPRINT_EXCESS_BYTES
# gen_ai.server.time_to_first_token of OpenTelemetry's GenAI conventions, as its Prometheus exporter spells it.
GEN_AI_TIME_TO_FIRST_TOKEN_SECONDS = "gen_ai_server_time_to_first_token_seconds"

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
_GEN_AI_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

# Model -> (in flight, held)
Loads = Callable[[], Mapping[ModelId, tuple[int, int]]]


class Metrics:
    """``loads``, ``routes_version`` and ``store_up`` are asked at each scrape: requests do not pay for them."""

    def __init__(self, loads: Loads, routes_version: Callable[[], int], store_up: Callable[[], bool]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, which nobody reads
        self._registry = registry = CollectorRegistry()
        by_endpoint = ("model", "endpoint")
        self._requests = Counter(REQUESTS, "Requests answered.", ("model", "endpoint", "code"), registry=registry)
        self._request_s = Histogram(
            REQUEST_SECONDS,
            "From the request's head to the last byte.",
            by_endpoint,
            registry=registry,
            buckets=_SECONDS,
        )
        self._first_byte_s = Histogram(
            TIME_TO_FIRST_BYTE_SECONDS,
            "From the request's head to the first byte of the answer's body.",
            by_endpoint,
            registry=registry,
            buckets=_SECONDS,
        )
        self._hold_s = Histogram(
            HOLD_SECONDS,
            "Time that a held request waited for its model.",
            ("model",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._first_token_s = Histogram(
            GEN_AI_TIME_TO_FIRST_TOKEN_SECONDS,
            "gen_ai.server.time_to_first_token: to the first event of a streamed answer.",
            ("gen_ai_request_model", "gen_ai_operation_name"),
            registry=registry,
            buckets=_GEN_AI_SECONDS,
        )
        self._retries = Counter(
            UPSTREAM_RETRIES,
            "Requests sent again because an engine was lost before its first byte.",
            ("model",),
            registry=registry,
        )
        self._broken = Counter(
            BROKEN_ANSWERS,
            "Answers cut off because the engine was lost after its first byte.",
            ("model",),
            registry=registry,
        )
        registry.register(_State(loads, routes_version, store_up))

    def observe(self, exchange: Exchange, duration_s: float) -> None:
        model, endpoint = exchange.model, exchange.endpoint
        self._requests.labels(model, endpoint, str(exchange.status)).inc()
        if endpoint == OTHER_ENDPOINT:
            return  # admin calls and probes count, their times are of no interest
        self._request_s.labels(model, endpoint).observe(duration_s)
        if exchange.held:
            self._hold_s.labels(model).observe(exchange.hold_s)
        if exchange.retries:
            self._retries.labels(model).inc(exchange.retries)
        if exchange.broken:
            self._broken.labels(model).inc()
        if exchange.first_byte_s is not None and exchange.status < 400:
            self._first_byte_s.labels(model, endpoint).observe(exchange.first_byte_s)
            if exchange.stream:
                self._first_token_s.labels(model, endpoint).observe(exchange.first_byte_s)

    def render(self, meters: ControlMeters | None = None) -> bytes:
        """``meters``: the controller's, where they are known."""
        own = generate_latest(self._registry)
        if meters is None:
            return own
        registry = CollectorRegistry()
        registry.register(ControlCollector(meters))
        return own + generate_latest(registry)


class _State(Collector):
    def __init__(self, loads: Loads, routes_version: Callable[[], int], store_up: Callable[[], bool]) -> None:
        self._loads = loads
        self._routes_version = routes_version
        self._store_up = store_up

    def describe(self) -> Iterable[Metric]:
        return []  # registering must not ask for values

    def collect(self) -> Iterator[Metric]:
        held = GaugeMetricFamily(HELD_REQUESTS, "Requests that wait for their model.", labels=("model",))
        in_flight = GaugeMetricFamily(IN_FLIGHT_REQUESTS, "Requests that are at an engine.", labels=("model",))
        for model, (running, waiting) in sorted(self._loads().items()):
            in_flight.add_metric((model,), running)
            held.add_metric((model,), waiting)
        yield held
        yield in_flight
        yield GaugeMetricFamily(ROUTES_VERSION, "Version of the route table in force.", value=self._routes_version())
        yield GaugeMetricFamily(STORE_UP, "1 while Redis answers.", value=int(self._store_up()))
