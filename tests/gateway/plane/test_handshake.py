"""What of a WebSocket's opening reaches the engine, and what of the engine's answer the caller."""

from __future__ import annotations

import pytest

from gateway.auth import hash_of
from gateway.endpoints import by_path
from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, Unauthorized
from gateway.plane.handshake import (
    UpgradeRequired,
    check_upgrade,
    key_hash_of,
    model_of,
    opened,
    parse_opening,
    protocols_of,
    request_to,
)
from gateway.plane.heads import BadHead, RequestHead, parse_request

REALTIME = by_path()["/v1/realtime"]
OPENING = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-key: abc", "sec-websocket-version: 13")


def head(target: str = "/v1/realtime?model=m", *headers: str, method: str = "GET", version: str = "1.1") -> RequestHead:
    lines = (f"{method} {target} HTTP/{version}", "host: gateway", *(headers or OPENING))
    return parse_request("\r\n".join((*lines, "", "")).encode())


def test_only_a_get_that_asks_for_a_websocket_opens_one() -> None:
    check_upgrade(head(), REALTIME)
    with pytest.raises(MethodNotAllowed):
        check_upgrade(head(method="POST"), REALTIME)
    for plain in (head("/v1/realtime?model=m", "accept: */*"), head(version="1.0")):
        with pytest.raises(UpgradeRequired) as refused:
            check_upgrade(plain, REALTIME)
        assert refused.value.status == 426
        assert ("upgrade", "websocket") in refused.value.headers()
    with pytest.raises(InvalidRequest, match="no body"):
        check_upgrade(head("/v1/realtime?model=m", *OPENING, "content-length: 5"), REALTIME)


def test_the_key_is_in_a_header_or_among_the_subprotocols() -> None:
    expected = hash_of([(b"authorization", b"Bearer rh-1")])
    assert key_hash_of([(b"x-api-key", b"rh-1")], hash_of) == expected
    offered = (b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.rh-1,openai-beta.realtime-v1")
    assert key_hash_of([offered], hash_of) == expected
    assert key_hash_of([offered, (b"authorization", b"Bearer rh-2")], hash_of) == hash_of([(b"x-api-key", b"rh-2")])
    for headers in ([], [(b"sec-websocket-protocol", b"realtime")]):
        with pytest.raises(Unauthorized):
            key_hash_of(headers, hash_of)


@pytest.mark.parametrize(
    ("target", "model"),
    [
        ("/v1/realtime?model=org%2Fm", "org/m"),
        ("/v1/realtime?intent=transcription&model=a+b", "a b"),
    ],
)
def test_the_query_names_the_model(target: str, model: str) -> None:
    assert model_of(head(target, *OPENING), REALTIME) == model


@pytest.mark.parametrize(
    "query", ["", "?model=", "?model=%20", "?models=m", "?model=a&model=b", "?model=%ff", "?model=" + "m" * 513]
)
def test_a_query_that_names_none_or_two_is_refused(query: str) -> None:
    with pytest.raises(GatewayError) as refused:
        model_of(head(f"/v1/realtime{query}", *OPENING), REALTIME)
    assert refused.value.status == 400


def test_the_engine_hears_the_same_but_for_the_callers_secrets() -> None:
    asked = head(
        "/v1/realtime?model=alias&intent=a%26b",
        *OPENING,
        "authorization: Bearer secret",
        "cookie: secret=1",
        "sec-websocket-protocol: realtime, openai-insecure-api-key.secret",
        "sec-websocket-extensions: permessage-deflate",
        "origin: https://app.example",
        "openai-safety-identifier: u1",
    )
    sent = request_to(asked, b"/base/v1/realtime", b"engine", b"x-request-id: r1\r\n", REALTIME, "org/m")
    lines = sent.split(b"\r\n")
    assert lines[0] == b"GET /base/v1/realtime?model=org%2Fm&intent=a%26b HTTP/1.1"
    assert sent.endswith(b"\r\n\r\n")
    assert b"secret" not in sent
    for line in (
        b"host: engine", b"connection: Upgrade", b"upgrade: websocket", b"sec-websocket-key: abc", b"x-request-id: r1",
        b"sec-websocket-version: 13", b"sec-websocket-protocol: realtime", b"openai-safety-identifier: u1",
        b"sec-websocket-extensions: permessage-deflate",
    ):  # fmt: skip
        assert lines.count(line) == 1, line
    assert parse_request(sent).upgrade == b"websocket"


def answer(*headers: str, status: int = 101) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status} Whatever", *headers, "", "")).encode()


GOOD = ("upgrade: websocket", "connection: Upgrade", "sec-websocket-accept: xyz")


def test_the_caller_hears_the_handshake_and_nothing_else_of_the_engine() -> None:
    found = parse_opening(answer(*GOOD, "server: uvicorn", "set-cookie: a=b", "sec-websocket-protocol: realtime"))
    assert found.status == 101
    told = opened(found, [b"realtime", b"other"])
    assert told == (
        b"connection: Upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-accept: xyz\r\nsec-websocket-protocol: realtime\r\n"
    )


def test_a_protocol_is_chosen_where_the_engine_chooses_none_but_never_one_that_was_not_offered() -> None:
    silent = parse_opening(answer(*GOOD))
    assert b"protocol: realtime" in opened(silent, [b"realtime", b"openai-insecure-api-key.x"])
    assert b"protocol" not in opened(silent, [])
    assert b"protocol" not in opened(parse_opening(answer(*GOOD, "sec-websocket-protocol: made-up")), [b"other"])
    assert protocols_of([(b"sec-websocket-protocol", b"a, b"), (b"sec-websocket-protocol", b",c")]) == [
        b"a",
        b"b",
        b"c",
    ]


def test_what_is_no_websocket_is_the_engines_fault() -> None:
    for headers in (("upgrade: h2c", "connection: Upgrade"), ("connection: Upgrade",), GOOD[:2]):
        with pytest.raises(BadHead):
            opened(parse_opening(answer(*headers)), [])
    with pytest.raises(BadHead):
        parse_opening(b"SSH-2.0-OpenSSH\r\n\r\n")
