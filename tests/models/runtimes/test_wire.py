"""Each message survives the wire, and a line that is none says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes import wire
from models.runtimes.protocol import EngineReply, EngineStatus, Refusal
from tests.models.runtimes.orders import order

HERE = Path("/run/x")


def status(**changes):
    return EngineStatus(**{"state": "ready", "pid": 1, "order": order(HERE, max_model_len=5), **changes})


@pytest.mark.parametrize(
    "message",
    [
        status(),
        status(state="failed", error="no weights"),
        EngineReply(seq=0, ok=True, status=status()),
        EngineReply(seq=7, ok=False, status=status(), error="busy"),
        Refusal(refused="not an order"),
    ],
)
def test_what_an_engine_says_is_read_as_what_it_is(message):
    line = wire.encode(message)
    assert line.endswith(b"\n")
    assert wire.decode_from_engine(line) == message


def test_an_order_arrives_as_it_was_sent():
    request = wire.LauncherRequest(op="start", order=order(HERE, compilation_config={"mode": 0}, enforce_eager=True))
    assert wire.decode_launcher(wire.encode(request)) == request


def test_control_requests_are_read():
    assert wire.decode_control(b'{"seq":3,"op":"wake"}\n') == wire.ControlRequest(seq=3, op="wake")


@pytest.mark.parametrize("line", [b'{"seq":3,"op":"explode"}', b'{"op":"wake"}', b"[]", b"", b"{"])
def test_a_wrong_control_request_is_an_error(line):
    with pytest.raises(msgspec.DecodeError):
        wire.decode_control(line)


def test_a_wrong_order_names_the_field():
    line = wire.encode(wire.LauncherRequest(op="start", order=order(HERE))).replace(b'"source"', b'"sauce"')
    with pytest.raises(msgspec.ValidationError, match="source"):
        wire.decode_launcher(line)


@given(st.text())
def test_any_text_stays_within_its_line(text):
    line = wire.encode(Refusal(refused=text))
    assert line.count(b"\n") == 1
    assert wire.decode_from_engine(line) == Refusal(refused=text)
