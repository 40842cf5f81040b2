"""Word of a coming reclaim: from a file, and from the metadata services of clouds, played by a server here."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from models.fleet.reclaim import BadNotice, Reclaim, ReclaimWatch, aws, gcp, read_file, source, url

NOW = 1_700_000_000.0


class Metadata(BaseHTTPRequestHandler):
    """``answers``: by method and path; AWS's want the token, Google's their header."""

    answers: ClassVar[dict[str, tuple[int, str]]] = {}
    heard: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def _answer(self) -> None:
        asked = f"{self.command} {self.path}"
        self.heard.append((asked, {name.lower(): value for name, value in self.headers.items()}))
        status, body = self.answers.get(asked, (404, "not found"))
        self.send_response(status)
        if status == 302:
            self.send_header("location", body)
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_PUT = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def metadata(answers: dict[str, tuple[int, str]]) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """(Its base URL, what it heard.)"""
    handler = type("Handler", (Metadata,), {"answers": answers, "heard": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.heard  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


TOKEN, ACTION = "PUT /latest/api/token", "GET /latest/meta-data/spot/instance-action"


def test_aws_says_when_behind_a_session_token() -> None:
    said = '{"action": "terminate", "time": "2023-11-14T22:15:20Z"}'
    with metadata({TOKEN: (200, "t0ken"), ACTION: (200, said)}) as (base, heard):
        assert aws(base)(NOW) == Reclaim(NOW + 120.0, "AWS: spot terminate")
    (_, asked), (_, then) = heard
    assert asked["x-aws-ec2-metadata-token-ttl-seconds"] == "300"
    assert then["x-aws-ec2-metadata-token"] == "t0ken"


def test_aws_without_a_notice_says_nothing() -> None:
    with metadata({TOKEN: (200, "t0ken")}) as (base, _):
        assert aws(base)(NOW) is None


def test_aws_that_gives_no_token_is_a_problem_and_not_a_no() -> None:
    with metadata({TOKEN: (403, "no")}) as (base, _), pytest.raises(BadNotice, match="no session token"):
        aws(base)(NOW)


@pytest.mark.parametrize("said", ["", "{}", "[]", '{"action": "stop", "time": "soon"}', '{"action": 1, "time": 2}'])
def test_a_notice_that_is_not_understood_is_heeded_all_the_same(said: str) -> None:
    with metadata({TOKEN: (200, "t"), ACTION: (200, said)}) as (base, _):
        assert aws(base)(NOW) == Reclaim(NOW + 30.0, "AWS: a spot notice")


@pytest.mark.parametrize(("said", "found"), [("TRUE", Reclaim(NOW + 30.0, "Google Cloud: preempted")), ("FALSE", None)])
def test_google_says_whether(said: str, found: Reclaim | None) -> None:
    with metadata({"GET /computeMetadata/v1/instance/preempted": (200, said)}) as (base, heard):
        assert gcp(base)(NOW) == found
    assert heard[0][1]["metadata-flavor"] == "Google"


@pytest.mark.parametrize(
    ("status", "body", "at"),
    [
        (200, "1700000060", NOW + 60),
        (200, "2023-11-14T23:15:20+01:00", NOW + 120),
        (200, "yes", NOW + 30),
        (200, "nan", NOW + 30),
        (200, "2023-11-14T23:15:20", NOW + 30),
        (204, "", None),
        (404, "not yet", None),
        (500, "oh", None),
        (302, "/elsewhere", None),
    ],
)
def test_an_url_answers_200_once_it_is_certain(status: int, body: str, at: float | None) -> None:
    with metadata({"GET /gone": (status, body), "GET /elsewhere": (200, "1")}) as (base, _):
        found = url(f"{base}/gone")(NOW)
    assert (found.at_unix_s if found else None) == at


@pytest.mark.parametrize("wrong", ["azure", "", "ftp://x", "/path"])
def test_an_unknown_source_is_named_with_the_known_ones(wrong: str) -> None:
    with pytest.raises(BadNotice, match=r"aws, gcp, or an http\(s\) URL"):
        source(wrong)


def test_a_file_says_when(tmp_path: Path) -> None:
    file = tmp_path / "reclaim"
    assert read_file(file, NOW) is None
    file.write_text("1700000090.5\n")
    assert read_file(file, NOW) == Reclaim(NOW + 90.5, "its owner takes it away (reclaim)")


@pytest.mark.parametrize("said", ["", "soon", "inf", "\0"])
def test_a_file_that_does_not_say_when_counts_from_when_it_was_written(tmp_path: Path, said: str) -> None:
    file = tmp_path / "reclaim"
    file.write_text(said)
    os.utime(file, (NOW - 10, NOW - 10))
    found = read_file(file, NOW)
    assert found is not None
    assert found.at_unix_s == NOW + 20.0
    assert "is no Unix time" in found.reason


def test_what_a_cloud_has_said_stays_said_and_the_earliest_counts(tmp_path: Path) -> None:
    answers = {"GET /gone": (200, "1700000060")}
    with metadata(answers) as (base, heard):
        watch = ReclaimWatch(tmp_path / "reclaim", f"{base}/gone")
        assert watch.look(NOW) == watch.look(NOW + 2)
        assert len(heard) == 1
    found = watch.look(NOW + 4)
    assert found is not None
    assert found.at_unix_s == NOW + 60
    (tmp_path / "reclaim").write_text(str(NOW + 10))
    sooner = watch.look(NOW + 4)
    assert sooner is not None
    assert sooner.at_unix_s == NOW + 10


def test_a_service_that_does_not_answer_is_logged_once_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = ReclaimWatch(tmp_path / "reclaim", "http://127.0.0.1:9/gone")
    with caplog.at_level(logging.WARNING):
        assert [watch.look(NOW + i) for i in range(3)] == [None] * 3
    assert len(caplog.records) == 1
    assert "cannot be asked" in caplog.text


def test_what_answers_in_another_protocol_says_nothing_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                talk, _ = listener.accept()
                with talk:
                    talk.recv(4096)
                    talk.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        watch = ReclaimWatch(tmp_path / "none", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        with caplog.at_level(logging.WARNING):
            assert watch.look(NOW) is None
            assert watch.look(NOW) is None
        thread.join(5)
    assert len(caplog.records) == 1
