"""Spans reach a collector as OTLP has them; a collector that does not take them costs no request anything."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway import otlp
from gateway.exchange import Usage
from gateway.otlp import OtlpExporter, OtlpSettings, settings_from
from gateway.tracing import ENDPOINT, TRACES_ENDPOINT, Tracer, tracer_from
from tests.gateway.test_tracing import GIVEN, SPAN, TRACE, exchange


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OTLP in JSON; answers with the status it is told to."""

    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(type(self).status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.daemon_threads = True
    server.got = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    Collector.status = 200
    server.shutdown()
    server.server_close()
    thread.join()


def url_of(server: http.server.ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def exporter_to(server: http.server.ThreadingHTTPServer, **more: str) -> OtlpExporter:
    settings = settings_from({ENDPOINT: url_of(server), **more})
    assert settings is not None
    return OtlpExporter(settings, unix=lambda: 1_700_000_100.0, monotonic=lambda: 100.0)


def as_protobuf(document: Any) -> Any:
    """OTLP's JSON is protobuf's, but for ids, which are hexadecimal. Raises ParseError for names it does not know."""
    for scoped in document["resourceSpans"][0]["scopeSpans"]:
        for span in scoped["spans"]:
            for name in {"traceId", "spanId", "parentSpanId"} & set(span):
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest())


def test_a_collector_gets_the_request_and_its_stages(collector: Any) -> None:
    exporter = exporter_to(collector, OTEL_SERVICE_NAME="here", OTEL_EXPORTER_OTLP_HEADERS="x-key=a%20b, c=d")
    tracer = Tracer(exporter)
    ours = tracer.traceparent(GIVEN)
    assert ours is not None
    went = exchange(
        ours, auth_s=0.5, engine_s=1.0, usage=Usage(7, 3), replica="m-1", code="engine_unavailable", broken=True
    )
    tracer.observe(went, 2.0)
    exporter.send()
    ((path, headers, document),) = collector.got
    assert path == "/v1/traces"
    assert (headers["x-key"], headers["c"], headers["content-type"]) == ("a b", "d", "application/json")
    (resource,) = as_protobuf(document).resource_spans
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "here"
    whole, auth, engine, answer = resource.scope_spans[0].spans
    assert whole.name == "chat.completions m"
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE, SPAN)
    assert whole.span_id.hex() == ours.split("-")[2], "what the engine was told is its parent"
    assert whole.start_time_unix_nano == 1_700_000_100 * 10**9
    assert whole.end_time_unix_nano == 1_700_000_102 * 10**9
    assert whole.status.code == 2
    facts = {each.key: each.value.string_value or each.value.int_value for each in whole.attributes}
    assert facts["gen_ai.usage.input_tokens"] == 7
    assert facts["http.response.status_code"] == 200
    assert facts["roundhouse.request_id"] == "req_1"
    assert [span.name for span in (auth, engine, answer)] == ["auth", "engine-ttfb", "answer"]
    assert {span.parent_span_id for span in (auth, engine, answer)} == {whole.span_id}
    assert len({span.span_id for span in (whole, auth, engine, answer)}) == 4
    assert answer.end_time_unix_nano == whole.end_time_unix_nano


def test_many_go_in_few_requests(collector: Any) -> None:
    exporter = exporter_to(collector)
    for _ in range(2 * otlp.MOST_AT_ONCE + 1):
        exporter.add(exchange(GIVEN.decode()), 1.0, "")
    exporter.send()
    exporter.send()
    sizes = [len(document["resourceSpans"][0]["scopeSpans"][0]["spans"]) for _, _, document in collector.got]
    assert sizes == [otlp.MOST_AT_ONCE, otlp.MOST_AT_ONCE, 1]


def test_what_waits_is_sent_at_the_end(collector: Any) -> None:
    exporter = exporter_to(collector)
    tracer = Tracer(exporter)
    tracer.start()
    tracer.observe(exchange(tracer.traceparent(None)), 1.0)
    tracer.stop()
    assert len(collector.got) == 1


def test_a_collector_that_refuses_or_is_away_costs_spans_only(collector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Collector.status = 503
    exporter = exporter_to(collector)
    exporter.add(exchange(GIVEN.decode()), 1.0, "")
    assert "503" in (exporter._try() or "")
    assert exporter.dropped == 1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = settings_from({ENDPOINT: f"http://127.0.0.1:{port}"})
    assert settings is not None
    away = OtlpExporter(settings)
    away.add(exchange(GIVEN.decode()), 1.0, "")
    assert away._try()
    assert away.dropped == 1
    monkeypatch.setattr(otlp, "MOST_WAITING", 5)
    for _ in range(9):
        away.add(exchange(GIVEN.decode()), 1.0, "")
    assert away.dropped == 5


def test_a_collector_that_comes_back_is_found_again(collector: Any) -> None:
    exporter = exporter_to(collector)
    for status in (503, 200):
        Collector.status = status
        exporter.add(exchange(GIVEN.decode()), 1.0, "")
        exporter._try()
    assert exporter.dropped == 1
    assert len(collector.got) == 2


# -- settings --------------------------------------------------------------------------------------------------------


def test_it_is_off_unless_a_collector_is_named() -> None:
    assert not tracer_from({}).on
    assert not tracer_from({ENDPOINT: ""}).on
    assert not tracer_from({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"}).on
    assert tracer_from({ENDPOINT: "http://c:4318"}).on


def test_urls_are_made_as_opentelemetry_says() -> None:
    def url(**environ: str) -> str:
        settings = settings_from(environ)
        assert settings is not None
        return settings.url.geturl()

    assert url(**{ENDPOINT: "http://c:4318"}) == "http://c:4318/v1/traces"
    assert url(**{ENDPOINT: "https://c/otlp/"}) == "https://c/otlp/v1/traces"
    assert url(**{ENDPOINT: "http://c", TRACES_ENDPOINT: "http://d/as/it/is"}) == "http://d/as/it/is"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({ENDPOINT: "c:4318"}, ENDPOINT),
        ({TRACES_ENDPOINT: "unix:/c"}, TRACES_ENDPOINT),
        ({ENDPOINT: "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({ENDPOINT: "http://c", "OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({ENDPOINT: "http://c", "OTEL_TRACES_SAMPLER_ARG": "half"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({ENDPOINT: "http://c", "OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        tracer_from(environ)
    assert "secret" not in str(error.value)


def test_what_is_sent_along_as_a_secret_is_not_shown() -> None:
    settings = settings_from({ENDPOINT: "http://c", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret"})
    assert isinstance(settings, OtlpSettings)
    assert settings.headers == {"authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(settings)
