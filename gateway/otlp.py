"""Spans to an OpenTelemetry collector: OTLP over HTTP, as JSON, from a thread of its own.

A collector that is slow or away costs spans, which are counted and told of, but no request any time.
https://opentelemetry.io/docs/specs/otlp/#otlphttp, https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import http.client
import os
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
import structlog

from gateway.exchange import Exchange
from gateway.spans import Ended, spans_of
from gateway.tracing import ENDPOINT, TRACES_ENDPOINT
from gateway.version import version

HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
SERVICE_NAME = "OTEL_SERVICE_NAME"
SAMPLER_RATIO = "OTEL_TRACES_SAMPLER_ARG"
DISABLED = "OTEL_SDK_DISABLED"
TRACES_PATH = "/v1/traces"
USUAL_SERVICE = "roundhouse-gateway"

SEND_EVERY_S = 1.0
MOST_WAITING = 20_000
MOST_AT_ONCE = 512
TIMEOUT_S = 5.0
LAST_SEND_S = 3.0

log = structlog.get_logger(__name__)

Post = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """``headers`` may hold a secret."""

    url: SplitResult
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    service: str = USUAL_SERVICE
    sample_ratio: float = 1.0


def settings_from(environ: Mapping[str, str] = os.environ) -> OtlpSettings | None:
    """None: tracing is off. Raises ValueError, which names the variable."""
    base, url = environ.get(ENDPOINT, "").strip(), environ.get(TRACES_ENDPOINT, "").strip()
    if environ.get(DISABLED, "").lower() == "true" or not (base or url):
        return None
    name, whole = (TRACES_ENDPOINT, url) if url else (ENDPOINT, base.rstrip("/") + TRACES_PATH)
    parts = urlsplit(whole)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{name} must be a URL such as http://127.0.0.1:4318, not {whole!r}")
    if environ.get(PROTOCOL, "http/json") not in ("http/json", "http/protobuf"):
        raise ValueError(
            f"{PROTOCOL} is {environ[PROTOCOL]!r}; spans are sent over HTTP: point {ENDPOINT} at that port"
        )
    try:
        ratio = float(environ.get(SAMPLER_RATIO) or 1.0)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"{SAMPLER_RATIO} must be a number from 0 to 1, not {environ[SAMPLER_RATIO]!r}")
    return OtlpSettings(parts, _headers(environ.get(HEADERS, "")), environ.get(SERVICE_NAME) or USUAL_SERVICE, ratio)


class OtlpExporter:
    def __init__(
        self,
        settings: OtlpSettings,
        unix: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        random_bits: Callable[[int], int] = random.getrandbits,
    ) -> None:
        self._settings = settings
        self._unix, self._monotonic = unix, monotonic
        self._random_bits = random_bits
        self._waiting: deque[Ended] = deque()
        self._connection: http.client.HTTPConnection | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def add(self, exchange: Exchange, duration_s: float, parent: str) -> None:
        """0.5 us. ``exchange`` is not changed any more."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
        else:
            self._waiting.append((exchange, duration_s, parent))

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_sending, name="spans", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(LAST_SEND_S)

    def send(self) -> None:
        """All that waits. Raises OSError and http.client.HTTPException; what could not be sent is lost."""
        # Between the two clocks: exchanges begin by the monotonic one.
        epoch_s = self._unix() - self._monotonic()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            try:
                self._post(msgspec.json.encode(self._document(batch, epoch_s)))
            except (OSError, http.client.HTTPException):
                self.dropped += len(batch)
                raise

    def _document(self, batch: list[Ended], epoch_s: float) -> dict[str, Any]:
        spans = [span for ended in batch for span in spans_of(ended, epoch_s, self._random_bits)]
        resource = {"service.name": self._settings.service, "service.version": version()}
        attributes = [{"key": key, "value": {"stringValue": value}} for key, value in resource.items()]
        scope = {"name": "roundhouse.gateway", "version": version()}
        scoped = {"scope": scope, "spans": spans}
        return {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [scoped]}]}

    def _post(self, body: bytes) -> None:
        url = self._settings.url
        if self._connection is None:
            assert url.hostname is not None
            if url.scheme == "https":
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    url.hostname, url.port, timeout=TIMEOUT_S, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
        path = url._replace(scheme="", netloc="", path=url.path or "/").geturl()
        try:
            self._connection.request("POST", path, body, {"content-type": "application/json", **self._settings.headers})
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            raise
        if answer.status >= 300:
            raise http.client.HTTPException(f"the collector answered {answer.status}")

    def _keep_sending(self) -> None:
        told = 0
        while not self._ending.wait(SEND_EVERY_S):
            reason = self._try()
            if self.dropped > told:
                log.warning("spans were lost", spans=self.dropped - told, reason=reason or "they came too fast")
                told = self.dropped
        self._try()

    def _try(self) -> str | None:
        try:
            self.send()
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        return None


def _headers(text: str) -> dict[str, str]:
    """``name=value,name=value``, percent-encoded (the specification's own form). Raises ValueError."""
    headers = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = pair.partition("=")
        if not name.strip() or not equals:
            raise ValueError(f"{HEADERS} must read name=value,name=value")
        headers[unquote(name.strip())] = unquote(value.strip())
    return headers
