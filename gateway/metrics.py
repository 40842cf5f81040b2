"""Every metric of the gateway: names, labels, buckets. Never a label per key, per request or per made-up model name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, exposition, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import control_metrics, fleet_metrics
from gateway.billing import webhook_metrics
from gateway.exchange import OTHER_ENDPOINT, Exchange
from gateway.tallies import FIRST_TOKEN_SECONDS, PER_TOKEN_SECONDS, SECONDS, STAGE_SECONDS, Histograms, Tally
from models.store.records import ControlMeters
from packers.types import ModelId

REQUESTS = "roundhouse_requests_total"
REQUEST_SECONDS = "roundhouse_request_seconds"
TIME_TO_FIRST_BYTE_SECONDS = "roundhouse_time_to_first_byte_seconds"
HOLD_SECONDS = "roundhouse_hold_seconds"
REQUEST_STAGE_SECONDS = "roundhouse_request_stage_seconds"
PROMPT_TOKENS = "roundhouse_prompt_tokens_total"
CACHED_PROMPT_TOKENS = "roundhouse_cached_prompt_tokens_total"
COMPLETION_TOKENS = "roundhouse_completion_tokens_total"
HELD_REQUESTS = "roundhouse_held_requests"
IN_FLIGHT_REQUESTS = "roundhouse_in_flight_requests"
TURNED_AWAY = "roundhouse_turned_away_total"
UPSTREAM_RETRIES = "roundhouse_upstream_retries_total"
BROKEN_ANSWERS = "roundhouse_broken_answers_total"
ROUTES_VERSION = "roundhouse_routes_version"
STORE_UP = "roundhouse_store_up"
# Of the controller (``gateway.control_metrics``).
TRANSITION_SECONDS = control_metrics.TRANSITION_SECONDS
QUARANTINED = control_metrics.QUARANTINED
REPLICAS_LOST = control_metrics.REPLICAS_LOST
FOOTPRINT_EXCESS_BYTES = control_metrics.FOOTPRINT_EXCESS_BYTES
ESTIMATE_ERROR_SECONDS = control_metrics.ESTIMATE_ERROR_SECONDS
ESTIMATED_SECONDS = control_metrics.ESTIMATED_SECONDS
# Of the fleet as the controller wrote it down.
CONTROLLER_SILENT_SECONDS = fleet_metrics.CONTROLLER_SILENT_SECONDS
NODES = fleet_metrics.NODES
GPUS = fleet_metrics.GPUS
GPU_MEMORY_BYTES = fleet_metrics.GPU_MEMORY_BYTES
GPU_RESERVED_BYTES = fleet_metrics.GPU_RESERVED_BYTES
REPLICAS = fleet_metrics.REPLICAS
MODEL_FAILED = fleet_metrics.MODEL_FAILED
CONFIG_REJECTED = fleet_metrics.CONFIG_REJECTED
PROBLEMS = fleet_metrics.PROBLEMS
# Of webhooks, by whichever process tells them.
WEBHOOKS = webhook_metrics.WEBHOOKS
WEBHOOKS_WAITING = webhook_metrics.WEBHOOKS_WAITING
# OpenTelemetry's GenAI conventions, as its Prometheus exporter spells them: gen_ai.server.time_to_first_token, ...
GEN_AI_TIME_TO_FIRST_TOKEN_SECONDS = "gen_ai_server_time_to_first_token_seconds"
GEN_AI_TIME_PER_OUTPUT_TOKEN_SECONDS = "gen_ai_server_time_per_output_token_seconds"

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4
# As in the Server-Timing header of each answer.
STAGES = ("auth", "queue", "wake", "connect", "engine-ttfb")

# Model -> (in flight, held)
Loads = Callable[[], Mapping[ModelId, tuple[int, int]]]
_NOBODY: Mapping[str, int] = {}


class Metrics:
    """``turned_away``: why -> how often. It, ``loads``, ``routes_version`` and ``store_up`` are looked at when a scrape
    asks: requests do not pay for them."""

    def __init__(
        self,
        loads: Loads,
        routes_version: Callable[[], int],
        store_up: Callable[[], bool],
        turned_away: Mapping[str, int] = _NOBODY,
    ) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}  # by model and endpoint
        self._registry = CollectorRegistry()
        self._registry.register(_Requests(self._tallies))
        self._registry.register(_State(loads, routes_version, store_up))
        self._registry.register(_TurnedAway(turned_away))

    def observe(self, exchange: Exchange, duration_s: float) -> None:
        """Called once for each request. About 2 us."""
        place = exchange.model, exchange.endpoint
        tally = self._tallies.get(place)
        if tally is None:
            tally = self._tallies[place] = Tally()
        codes, status = tally.codes, exchange.status
        codes[status] = codes.get(status, 0) + 1
        if exchange.endpoint != OTHER_ENDPOINT:  # admin calls and probes count, their times are of no interest
            tally.add(exchange, duration_s)

    def render(self, meters: ControlMeters | None = None) -> bytes:
        """``meters``: the controller's, where they are known."""
        return generate_latest(self._registry) + control_metrics.render(meters)


class _Requests(Collector):
    def __init__(self, tallies: Mapping[tuple[str, str], Tally]) -> None:
        self._tallies = tallies

    def describe(self) -> Iterable[Metric]:
        return []  # registering must not ask for values

    def collect(self) -> Iterator[Metric]:
        tallies = sorted(self._tallies.items())
        requests = CounterMetricFamily(REQUESTS, "Requests answered.", labels=("model", "endpoint", "code"))
        for place, tally in tallies:
            for code, count in sorted(tally.codes.items()):
                requests.add_metric((*place, str(code)), count)
        yield requests
        timed = [(place, tally) for place, tally in tallies if place[1] != OTHER_ENDPOINT]
        yield from _times(timed)
        yield from _by_model(timed)
        yield from _tokens(timed)


Timed = list[tuple[tuple[str, str], Tally]]
Counts = Mapping[tuple[str, ...], int]


def _times(timed: Timed) -> Iterator[Metric]:
    by_endpoint, gen_ai = ("model", "endpoint"), ("gen_ai_request_model", "gen_ai_operation_name")
    answered = Histograms(REQUEST_SECONDS, "From the request's head to the last byte.", by_endpoint, SECONDS)
    first_byte = Histograms(
        TIME_TO_FIRST_BYTE_SECONDS,
        "From the request's head to the first byte of the answer's body.",
        by_endpoint,
        SECONDS,
    )
    hold = Histograms(HOLD_SECONDS, "Time that a held request waited for its model.", ("model",), SECONDS)
    stages = Histograms(
        REQUEST_STAGE_SECONDS,
        "Where a request's time went: the key's check, waiting for a place, for the model to start, for a connection, "
        "for the engine's first byte.",
        ("model", "stage"),
        STAGE_SECONDS,
    )
    first_token = Histograms(
        GEN_AI_TIME_TO_FIRST_TOKEN_SECONDS,
        "gen_ai.server.time_to_first_token: to the first event of a streamed answer.",
        gen_ai,
        FIRST_TOKEN_SECONDS,
    )
    per_token = Histograms(
        GEN_AI_TIME_PER_OUTPUT_TOKEN_SECONDS,
        "gen_ai.server.time_per_output_token: after the first event of a streamed answer, per further token.",
        gen_ai,
        PER_TOKEN_SECONDS,
    )
    for place, tally in timed:
        model = place[0]
        answered.add(place, tally.answered_s)
        first_byte.add(place, tally.first_byte_s)
        hold.add((model,), tally.hold_s)
        of_stages = (tally.auth_s, tally.queue_s, tally.wake_s, tally.connect_s, tally.engine_s)
        for stage, values in zip(STAGES, of_stages, strict=True):
            stages.add((model, stage), values)
        first_token.add(place, tally.first_token_s)
        per_token.add(place, tally.per_token_s)
    for family in (answered, first_byte, hold, stages, first_token, per_token):
        yield family.family()


def _by_model(timed: Timed) -> Iterator[Metric]:
    """Only models that something happened to."""
    retries, broken = defaultdict[str, int](int), defaultdict[str, int](int)
    for (model, _), tally in timed:
        retries[model] += tally.retries
        broken[model] += tally.broken
    told = "Requests sent again because an engine was lost before its first byte."
    yield _counter(UPSTREAM_RETRIES, told, ("model",), {(model,): count for model, count in retries.items()})
    told = "Answers cut off because the engine was lost after its first byte."
    yield _counter(BROKEN_ANSWERS, told, ("model",), {(model,): count for model, count in broken.items()})


def _tokens(timed: Timed) -> Iterator[Metric]:
    """As the engines counted them."""
    labels = ("model", "endpoint")
    counts: Counts = {place: tally.prompt_tokens for place, tally in timed}
    yield _counter(PROMPT_TOKENS, "Tokens of prompts.", labels, counts)
    counts = {place: tally.cached_tokens for place, tally in timed}
    yield _counter(CACHED_PROMPT_TOKENS, "Tokens of prompts that did not have to be computed.", labels, counts)
    counts = {place: tally.completion_tokens for place, tally in timed}
    yield _counter(COMPLETION_TOKENS, "Tokens of answers.", labels, counts)


def _counter(name: str, told: str, labels: tuple[str, ...], counts: Counts) -> CounterMetricFamily:
    family = CounterMetricFamily(name, told, labels=labels)
    for values, count in sorted(counts.items()):
        if count:
            family.add_metric(values, count)
    return family


class _TurnedAway(Collector):
    def __init__(self, turned_away: Mapping[str, int]) -> None:
        self._turned_away = turned_away

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        text = "Requests refused for who sent them: blocked by an operator, or cooling down after many errors."
        family = CounterMetricFamily(TURNED_AWAY, text, labels=("why",))
        for why, count in self._turned_away.items():
            family.add_metric((why,), count)
        yield family


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
