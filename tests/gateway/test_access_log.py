"""One JSON line per request: what is in it, what is left out, and that nobody waits for its reader."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import access_log
from gateway.access_log import AccessLog, Line
from gateway.exchange import Exchange, Usage
from gateway.logs import log_exchange

NOON_UNIX_S = 1_700_000_000.25


class Reader:
    def __init__(self, mode: str = "all") -> None:
        self.written: list[bytes] = []
        self.log = AccessLog(mode, self.written.append, unix=lambda: NOON_UNIX_S)

    def lines(self) -> list[dict[str, Any]]:
        self.log.flush()
        text = b"".join(self.written)
        assert not text or text.endswith(b"\n")
        return [json.loads(line) for line in text.splitlines()]


def exchange(**facts: Any) -> Exchange:
    made = Exchange(
        "req_1", "POST", "/v1/chat/completions", started_s=0.0, endpoint="chat.completions", model="m", status=200
    )
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def probe(**facts: Any) -> Exchange:
    return exchange(method="GET", path="/health", endpoint="other", model="unknown", **facts)


def test_a_plain_request_is_a_short_line() -> None:
    reader = Reader()
    reader.log.observe(exchange(), 1.5)
    assert reader.lines() == [
        {
            "event": "request", "request_id": "req_1", "method": "POST", "path": "/v1/chat/completions",
            "endpoint": "chat.completions", "model": "m", "status": 200, "seconds": 1.5, "level": "info",
            "logger": "gateway.requests", "timestamp": "2023-11-14T22:13:20.250Z",
        }
    ]  # fmt: skip


def test_everything_that_happened_is_in_it() -> None:
    reader = Reader()
    happened = exchange(
        stream=True, replica="m-1", retries=2, key_id="key_1", tenant="acme", code="engine_unavailable",
        first_byte_s=0.5, engine_s=0.25, held=True, queue_s=1.0, wake_s=2.0, usage=Usage(7, 3, 5),
        client_gone=True, broken=True, status=503, address="198.51.100.7",
    )  # fmt: skip
    reader.log.observe(happened, 4.0)
    (line,) = reader.lines()
    told = {
        "stream": True, "replica": "m-1", "retries": 2, "address": "198.51.100.7", "key_id": "key_1", "tenant": "acme",
        "code": "engine_unavailable", "first_byte_s": 0.5, "engine_s": 0.25, "hold_s": 3.0,
        "prompt_tokens": 7, "completion_tokens": 3, "client_gone": True, "broken": True,
    }  # fmt: skip
    assert line | told == line
    assert set(line) == set(Line.__struct_fields__)


def test_who_does_nothing_wrong_leaves_no_address() -> None:
    reader = Reader()
    reader.log.observe(exchange(status=200, address="198.51.100.7"), 1.0)
    (line,) = reader.lines()
    assert "address" not in line


def test_a_person_reads_the_same_facts() -> None:
    with capture_logs() as lines:
        log_exchange(exchange(replica="m-1", usage=Usage(7, 3)), 1.5)
    (person,) = lines
    reader = Reader()
    reader.log.observe(exchange(replica="m-1", usage=Usage(7, 3)), 1.5)
    (machine,) = reader.lines()
    assert {name: person[name] for name in machine if name in person} == {
        name: value for name, value in machine.items() if name in person
    }
    assert {"request_id", "path", "model", "status", "seconds", "replica", "prompt_tokens"} <= set(person) & set(
        machine
    )


def test_until_logging_is_set_up_lines_are_structlogs() -> None:
    with capture_logs() as lines:
        AccessLog().observe(exchange(), 1.0)
        AccessLog("off").observe(exchange(), 1.0)
    assert [line["event"] for line in lines] == ["request"]


def test_probes_are_quiet_unless_they_fail() -> None:
    reader = Reader()
    for status in (200, 404, 503):
        reader.log.observe(probe(status=status), 0.001)
    reader.log.observe(exchange(endpoint="other", path="/admin/v1/keys", status=201), 0.1)
    assert [line["status"] for line in reader.lines()] == [503, 201]


def test_errors_alone_may_be_asked_for() -> None:
    reader = Reader("errors")
    reader.log.observe(exchange(), 1.0)
    for wrong in (exchange(status=429), exchange(client_gone=True), exchange(broken=True)):
        reader.log.observe(wrong, 1.0)
    assert len(reader.lines()) == 3


def test_or_none_at_all() -> None:
    reader = Reader("off")
    reader.log.observe(exchange(status=500), 1.0)
    assert reader.lines() == []


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="sometimes"):
        AccessLog("sometimes")


def test_odd_paths_and_ids_stay_one_short_line() -> None:
    reader = Reader()
    reader.log.observe(exchange(path='/v1/predict/a"\n\u2028\x00é' + "x" * 1_000_000), 1.0)
    (line,) = reader.lines()
    assert len(line["path"]) == 200
    assert line["path"].startswith('/v1/predict/a"\n')


def test_the_second_changes_with_the_clock() -> None:
    written: list[bytes] = []
    now_s = [0.9996]
    log = AccessLog("all", written.append, unix=lambda: now_s[0])
    for now_s[0] in (0.9996, 1.0, 86_400.5):
        log.observe(exchange(), 1.0)
    log.flush()
    stamps = [json.loads(line)["timestamp"] for line in b"".join(written).splitlines()]
    assert stamps == ["1970-01-01T00:00:00.999Z", "1970-01-01T00:00:01.000Z", "1970-01-02T00:00:00.500Z"]


def test_lines_are_written_together_in_their_order() -> None:
    reader = Reader()
    for number in range(100):
        reader.log.observe(exchange(request_id=f"req_{number}"), 1.0)
    assert [line["request_id"] for line in reader.lines()] == [f"req_{number}" for number in range(100)]
    assert len(reader.written) == 1
    reader.log.flush()
    assert len(reader.written) == 1, "nothing, no write"


def test_a_reader_that_stands_still_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOST_WAITING_LINES", 10)
    reader = Reader()
    for _ in range(25):
        reader.log.observe(exchange(), 1.0)
    assert reader.log.dropped == 15
    assert len(reader.lines()) == 10
    reader.log.observe(exchange(), 1.0)
    assert len(reader.lines()) == 11, "once it reads again, lines are taken again"


def test_no_line_is_lost_between_the_threads() -> None:
    written: list[bytes] = []
    log = AccessLog("all", written.append)
    ended = threading.Event()

    def keep_flushing() -> None:
        while not ended.is_set():
            log.flush()

    thread = threading.Thread(target=keep_flushing)
    thread.start()
    for number in range(20_000):
        log.observe(exchange(request_id=f"req_{number}"), 1.0)
    ended.set()
    thread.join()
    log.flush()
    found = [json.loads(line)["request_id"] for line in b"".join(written).splitlines()]
    assert found == [f"req_{number}" for number in range(20_000)]


@pytest.fixture
def level() -> Iterator[logging.Logger]:
    logger = logging.getLogger("gateway.requests")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(before)


@pytest.mark.usefixtures("level")
def test_what_waits_is_written_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "FLUSH_S", 3600.0)
    reader = Reader()
    reader.log.start()
    reader.log.observe(exchange(), 1.0)
    reader.log.stop()
    assert len(b"".join(reader.written).splitlines()) == 1
    reader.log.stop()


@pytest.mark.usefixtures("level")
def test_a_reader_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: bytes) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(access_log, "FLUSH_S", 3600.0)
    log = AccessLog("all", gone)
    log.start()
    log.observe(exchange(), 1.0)
    log.stop()
    assert log.dropped == 1


def test_at_a_level_that_shows_no_requests_there_are_none(level: logging.Logger) -> None:
    level.setLevel(logging.WARNING)
    reader = Reader()
    reader.log.start()
    reader.log.observe(exchange(), 1.0)
    assert reader.lines() == []


def test_several_workers_may_write_into_one_pipe() -> None:
    """Whole lines, each in one piece, although they come from two processes at once."""
    program = textwrap.dedent(
        """
        import sys
        from gateway import logs
        from gateway.access_log import AccessLog
        from gateway.exchange import Exchange

        logs.configure(as_json=True)
        log = AccessLog()
        log.start()
        for number in range(3000):
            request_id = f"req_{sys.argv[1]}_{number}"
            log.observe(Exchange(request_id, "POST", "/v1/completions", 0.0, endpoint="completions", model="m"), 1.0)
        log.stop()
        """
    )
    read, write = os.pipe()
    workers = [subprocess.Popen([sys.executable, "-c", program, name], stderr=write) for name in ("a", "b")]
    os.close(write)
    with open(read, "rb") as pipe:
        found = [json.loads(line)["request_id"] for line in pipe]
    assert [worker.wait() for worker in workers] == [0, 0]
    for name in ("a", "b"):
        assert [each for each in found if each.startswith(f"req_{name}")] == [f"req_{name}_{n}" for n in range(3000)]
