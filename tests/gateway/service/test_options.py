"""What is configured gets to the worker, word for word."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flags import caps_of, limits_of
from gateway.greed import Caps
from gateway.server import arguments
from gateway.service.options import DRAIN_TIMEOUT_S, GatewayOptions, auto_workers, limits, options
from gateway.settings import Limits
from gateway.tls import TlsFiles
from models.catalog.gateway import GatewaySettings, RequestCaps


def arrived(chosen: GatewayOptions) -> GatewayOptions:
    """As the worker understands it."""
    got = arguments(chosen.words())
    tls = None if got.tls_cert is None else TlsFiles(got.tls_cert, got.tls_key)
    return GatewayOptions(got.host, got.port, got.admin, got.workers, tls, got.access_log, limits_of(got), caps_of(got))


def test_what_is_as_usual_is_not_said() -> None:
    chosen = GatewayOptions(limits=Limits())
    assert (chosen.url, chosen.admin_url) == ("http://127.0.0.1:8000", None)
    assert chosen.words() == ["--host", "127.0.0.1", "--port", "8000"]
    assert arrived(chosen) == chosen


def test_everything_else_arrives() -> None:
    settings = GatewaySettings.model_validate(
        {
            "admin": {"host": "::1", "port": 9001},
            "tls": {"cert": "certs/a.pem", "key": "/etc/b.pem"},
            "hold_timeout": "90s",
            "hold_limit": 3,
            "hold_comments": "10s",
            "max_body": "1MiB",
            "max_upload": "1GiB",
            "max_head": "8KiB",
            "max_connections": 500,
            "request_timeout": 5,
            "idle_timeout": "1m",
            "linger": 0,
            "drain_timeout": "20s",
            "access_log": "errors",
            "media_hosts": ["images.example.com", "cdn.example.com"],
            "caps": {"n": 4, "tools": 7},
        }
    )
    chosen = options(settings, folder=Path("/srv/config"), host="::1", port=9000, workers=4)
    assert arrived(chosen) == chosen
    assert chosen.tls == TlsFiles(Path("/srv/config/certs/a.pem"), Path("/etc/b.pem"))
    assert (chosen.url, chosen.admin_url) == ("https://[::1]:9000", "https://[::1]:9001")
    assert chosen.caps == replace(Caps(), n=4, tools=7)
    assert asdict(chosen.limits) == {
        "max_body_bytes": 1 << 20,
        "upload_bytes": 1 << 30,
        "head_bytes": 8 << 10,
        "request_timeout_s": 5.0,
        "idle_timeout_s": 60.0,
        "linger_s": 0.0,
        "drain_timeout_s": 20.0,
        "max_connections": 500,
        "hold_timeout_s": 90.0,
        "hold_limit": 3,
        "hold_comments_s": 10.0,
        "media_hosts": ("images.example.com", "cdn.example.com"),
    }


def test_the_configuration_and_the_gateway_have_the_same_defaults() -> None:
    assert limits(GatewaySettings()) == replace(Limits(), drain_timeout_s=DRAIN_TIMEOUT_S)
    assert GatewayOptions().limits.drain_timeout_s == DRAIN_TIMEOUT_S
    assert set(RequestCaps.model_fields) == {field.name for field in fields(Caps)}


SECONDS = st.floats(0.001, 86_399, allow_nan=False)
COUNTS = st.integers(1, 1 << 40)


@given(SECONDS, SECONDS, COUNTS, COUNTS)
def test_any_value_arrives_as_it_is(hold_s: float, idle_s: float, body_bytes: int, held: int) -> None:
    given_limits = Limits(hold_timeout_s=hold_s, idle_timeout_s=idle_s, max_body_bytes=body_bytes, hold_limit=held)
    got = arrived(GatewayOptions(limits=given_limits)).limits
    assert got.hold_timeout_s == pytest.approx(hold_s, rel=1e-12)
    assert (got.max_body_bytes, got.hold_limit) == (body_bytes, held)


@pytest.mark.parametrize(
    "words",
    [
        ("--cap", "n"), ("--cap", "nn=3"), ("--cap", "n=0"), ("--cap", "n=x"), ("--linger", "-1"), ("--workers", "65"),
        ("--idle-timeout", "0"), ("--idle-timeout", "90000"), ("--max-connections", "-1"), ("--tls-cert", "only.pem"),
        ("--access-log", "some"), ("--max-head", "1.5"), ("--admin", "8001"), ("--admin", "localhost:70000"),
    ],
)  # fmt: skip
def test_wrong_words_are_named(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        arguments(words)
    assert refused.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_workers_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)))
    assert (auto_workers(simulated=True), auto_workers(simulated=False)) == (1, 6)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(96)))
    assert auto_workers(simulated=False) == 8
