"""Traces of requests: W3C trace context in and on (https://www.w3.org/TR/trace-context/), spans out by OTLP."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.exchange import Exchange

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
MOST_UNDER_WAY = 100_000  # requests whose caller's span is remembered
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[\x20-\x7e]*)?"
)
_SAMPLED = 1


class Exporter(Protocol):
    def add(self, exchange: Exchange, duration_s: float, parent: str) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Tracer:
    """Without an exporter it is off: what a caller sends goes on to the engine as it came, and nothing is made."""

    __slots__ = ("_exporter", "_parents", "_random_bits", "_threshold")

    def __init__(
        self,
        exporter: Exporter | None = None,
        sample_ratio: float = 1.0,
        random_bits: Callable[[int], int] = random.getrandbits,
    ) -> None:
        self._exporter = exporter
        self._threshold = int(sample_ratio * (1 << 64))
        self._random_bits = random_bits
        self._parents: dict[str, str] = {}  # our traceparent -> the caller's span

    @property
    def on(self) -> bool:
        return self._exporter is not None

    def traceparent(self, given: bytes | None) -> str | None:
        """What to send on to the engine; None: nothing. ``given``: the caller's header; ignored when it is malformed.

        Whether a trace is sampled is for whoever began it. Off: 0.1 us; on: 1 us.
        """
        found = None if given is None else _parse(given)
        if self._exporter is None:
            return given.decode() if given is not None and found is not None else None
        bits = self._random_bits
        if found is None:
            trace = bits(128) or 1
            # https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased: by the trace, not by the span.
            sampled = trace & (1 << 64) - 1 < self._threshold
            return f"00-{trace:032x}-{bits(64) or 1:016x}-{sampled:02x}"
        trace_id, parent, flags = found
        sampled = bool(int(flags, 16) & _SAMPLED)
        ours = f"00-{trace_id}-{bits(64) or 1:016x}-{sampled:02x}"
        if sampled and len(self._parents) < MOST_UNDER_WAY:
            self._parents[ours] = parent
        return ours

    def observe(self, exchange: Exchange, duration_s: float) -> None:
        """The request is over: its span goes to the exporter."""
        if self._exporter is None or exchange.traceparent is None:
            return
        if exchange.traceparent.endswith("-01"):
            self._exporter.add(exchange, duration_s, self._parents.pop(exchange.traceparent, ""))

    def start(self) -> None:
        if self._exporter is not None:
            self._exporter.start()

    def stop(self) -> None:
        """What is left is sent first, for a bounded time."""
        if self._exporter is not None:
            self._exporter.stop()


def _parse(given: bytes) -> tuple[str, str, str] | None:
    """Trace, span and flags. Of versions after 00 the beginning is read in the same way (section 3.2.2)."""
    found = _TRACEPARENT.fullmatch(given)
    if found is None or (found.group(4) is not None and given.startswith(b"00")):
        return None
    trace, span, flags, _ = found.groups()
    return trace.decode(), span.decode(), flags.decode()


def tracer_from(environ: Mapping[str, str] = os.environ) -> Tracer:
    """On where OpenTelemetry's variables name a collector. Raises ValueError for settings that cannot be followed."""
    if not (environ.get(ENDPOINT) or environ.get(TRACES_ENDPOINT)):
        return Tracer()
    from gateway.otlp import OtlpExporter, settings_from

    settings = settings_from(environ)
    return Tracer() if settings is None else Tracer(OtlpExporter(settings), settings.sample_ratio)
