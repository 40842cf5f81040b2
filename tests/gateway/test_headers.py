"""What passes, in both directions."""

from __future__ import annotations

import pytest

from gateway.headers import first, from_engine, to_engine


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "x-api-key", "api-key", "cookie", "host", "content-length", "transfer-encoding", "connection",
        "keep-alive", "te", "trailer", "upgrade", "proxy-authorization", "expect", "accept-encoding", "forwarded",
        "x-forwarded-for", "x-forwarded-host", "x-data-parallel-rank", "x-request-timeout", "sec-fetch-mode",
        "x-roundhouse-key",
    ],
)  # fmt: skip
def test_secrets_framing_and_hops_stay_here(name: str) -> None:
    assert to_engine([(name.encode(), b"value")]) == []


@pytest.mark.parametrize(
    "name", ["content-type", "accept", "user-agent", "tracestate", "anthropic-version", "x-my-own"]
)
def test_the_rest_goes_to_the_engine(name: str) -> None:
    assert to_engine([(name.encode(), b"value")]) == [(name.encode(), b"value")]


def test_what_the_caller_calls_hop_by_hop_is() -> None:
    given = [(b"connection", b"close, X-Secret-Hop"), (b"x-secret-hop", b"1"), (b"x-other", b"2")]
    assert to_engine(given) == [(b"x-other", b"2")]


@pytest.mark.parametrize("name", [b"x-request-id", b"traceparent"])
def test_what_the_gateway_says_itself_is_not_said_twice(name: bytes) -> None:
    assert to_engine([(name, b"caller's")]) == []


def test_a_name_that_some_server_could_take_for_another_goes_nowhere() -> None:
    assert to_engine([(b"content_length", b"1"), (b"transfer_encoding", b"chunked")]) == []


def test_engines_describe_the_body_and_nothing_else() -> None:
    given = [
        (b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"server", b"uvicorn"),
        (b"set-cookie", b"a=b"), (b"x-request-id", b"other"), (b"transfer-encoding", b"chunked"),
        (b"access-control-allow-origin", b"*"), (b"location", b"http://internal"),
    ]  # fmt: skip
    assert from_engine(given) == [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


def test_the_first_of_several_counts() -> None:
    assert first([(b"a", b"1"), (b"a", b"2")], b"a") == "1"
    assert first([], b"a") is None
