"""A request's spans, as OTLP writes them in JSON: one of the whole, and one of each stage that took time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gateway.exchange import OTHER_ENDPOINT, Exchange

Ended = tuple[Exchange, float, str]  # with its duration in seconds and the caller's span

INTERNAL, SERVER = 1, 2  # SpanKind
ERROR = 2  # StatusCode


def spans_of(ended: Ended, epoch_s: float, random_bits: Callable[[int], int]) -> Iterator[dict[str, Any]]:
    """``epoch_s``: the Unix time at which the exchange's clock was 0."""
    exchange, duration_s, parent = ended
    assert exchange.traceparent is not None
    _, trace, span, _ = exchange.traceparent.split("-", 3)
    start_s = epoch_s + exchange.started_s
    inference = exchange.endpoint != OTHER_ENDPOINT
    whole: dict[str, Any] = {
        "traceId": trace,
        "spanId": span,
        "name": f"{exchange.endpoint} {exchange.model}" if inference else exchange.method,
        "kind": SERVER,
        "startTimeUnixNano": _nano(start_s),
        "endTimeUnixNano": _nano(start_s + duration_s),
        "attributes": [_attribute(key, value) for key, value in _facts(exchange).items() if value is not None],
    }
    if parent:
        whole["parentSpanId"] = parent
    if exchange.status >= 500 or exchange.broken:
        whole["status"] = {"code": ERROR}
    yield whole
    for name, begin_s, end_s in stages(exchange, duration_s):
        yield {
            "traceId": trace,
            "spanId": f"{random_bits(64) or 1:016x}",
            "parentSpanId": span,
            "name": name,
            "kind": INTERNAL,
            "startTimeUnixNano": _nano(start_s + begin_s),
            "endTimeUnixNano": _nano(start_s + end_s),
        }


def stages(exchange: Exchange, duration_s: float) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end in seconds since the request's head: one after the other, as they come about.

    Of a request that was tried again the waits are summed up, and the connection and the engine are the last try's.
    """
    at_s = 0.0
    steps = (
        ("auth", exchange.auth_s),
        ("queue", exchange.queue_s),
        ("wake", exchange.wake_s),
        ("connect", exchange.connect_s),
        ("engine-ttfb", exchange.engine_s),
    )
    for name, took_s in steps:
        if took_s > 0:
            yield name, at_s, at_s + took_s
            at_s += took_s
    if exchange.engine_s > 0 and duration_s > at_s:
        yield "answer", at_s, duration_s


def _facts(exchange: Exchange) -> dict[str, str | int | bool | None]:
    """Under OpenTelemetry's names for HTTP and GenAI, and ours."""
    inference = exchange.endpoint != OTHER_ENDPOINT
    usage = exchange.usage
    return {
        "http.request.method": exchange.method,
        "http.response.status_code": exchange.status,
        "url.path": exchange.path[:200],
        "error.type": exchange.code,
        "gen_ai.operation.name": exchange.endpoint if inference else None,
        "gen_ai.request.model": exchange.model if inference else None,
        "gen_ai.usage.input_tokens": None if usage is None else usage.prompt,
        "gen_ai.usage.output_tokens": None if usage is None else usage.completion,
        "roundhouse.request_id": exchange.request_id,
        "roundhouse.replica": exchange.replica,
        "roundhouse.retries": exchange.retries or None,
        "roundhouse.client_gone": exchange.client_gone or None,
    }


def _attribute(key: str, value: str | int | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    # 64-bit numbers are text in OTLP's JSON.
    return {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}


def _nano(unix_s: float) -> str:
    return str(round(unix_s * 1e9))
