"""One line per request, with facts and without secrets."""

from __future__ import annotations

from structlog.testing import capture_logs

from gateway.exchange import Exchange
from gateway.logs import log_exchange


def line(**facts: object) -> dict[str, object]:
    exchange = Exchange("req_1", "POST", "/v1/chat/completions", started_s=0.0, status=200)
    for name, value in facts.items():
        setattr(exchange, name, value)
    with capture_logs() as lines:
        log_exchange(exchange, 1.5)
    assert len(lines) == 1
    return dict(lines[0])


def test_a_request_is_one_line_of_facts() -> None:
    told = line(
        endpoint="chat.completions", model="m", replica="m-1", stream=True, first_byte_s=0.5, held=True, queue_s=0.25
    )
    assert told.pop("log_level") == "info"
    assert told == {
        "event": "request", "request_id": "req_1", "method": "POST", "path": "/v1/chat/completions",
        "endpoint": "chat.completions", "model": "m", "status": 200, "seconds": 1.5, "stream": True, "replica": "m-1",
        "retries": 0, "first_byte_s": 0.5, "hold_s": 0.25,
    }  # fmt: skip


def test_trouble_is_told() -> None:
    told = line(endpoint="chat.completions", code="engine_unavailable", broken=True, client_gone=True)
    assert (told["code"], told["broken"], told["client_gone"]) == ("engine_unavailable", True, True)


def test_probes_are_quiet_unless_they_fail() -> None:
    assert line(method="GET", path="/health")["log_level"] == "debug"
    assert line(method="GET", path="/admin/v1/gpus", status=503)["log_level"] == "info"
    assert line(method="POST", path="/admin/v1/keys", status=201)["log_level"] == "info"


def test_a_path_of_a_megabyte_does_not_fill_the_log() -> None:
    assert len(str(line(path="/" + "x" * 1_000_000)["path"])) == 200
