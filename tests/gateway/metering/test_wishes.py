"""What a streamed request's engine is asked for on top, and what its caller wanted of that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metering.wishes import NOTHING, Wish, asking_for_usage

ALL = {"include_usage": True, "continuous_usage_stats": True}


def sent_on(body: dict[str, Any]) -> tuple[dict[str, Any], Wish]:
    changed, wish = asking_for_usage(json.dumps(body).encode())
    return json.loads(changed), wish


def test_most_callers_do_not_speak_of_it() -> None:
    body = {"model": "m", "stream": True, "messages": [{"content": "}"}]}
    assert sent_on(body) == ({**body, "stream_options": ALL}, NOTHING)


@pytest.mark.parametrize("end", [b"", b"\n", b" \r\n\t"])
def test_whatever_follows_the_body(end: bytes) -> None:
    changed, _ = asking_for_usage(b'{"model":"m"}' + end)
    assert json.loads(changed) == {"model": "m", "stream_options": ALL}


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        ({"include_usage": True}, Wish(last=True)),
        ({"include_usage": True, "continuous_usage_stats": True}, Wish(last=True, each=True)),
        ({"include_usage": True, "continuous_usage_stats": False}, Wish(last=True)),
        ({"continuous_usage_stats": True}, NOTHING),  # as vLLM takes it
        ({"include_usage": False}, NOTHING),
        ({}, NOTHING),
        (None, NOTHING),
    ],
)
def test_what_a_caller_wants_is_kept_in_mind(options: Any, wish: Wish) -> None:
    assert sent_on({"model": "m", "stream_options": options, "n": 2}) == (
        {"model": "m", "stream_options": ALL, "n": 2},
        wish,
    )


def test_other_options_stay() -> None:
    changed, _ = sent_on({"stream_options": {"include_obfuscation": False}})
    assert changed == {"stream_options": {"include_obfuscation": False, **ALL}}


@pytest.mark.parametrize("options", [5, "all", [1], True])
def test_what_is_no_object_is_for_the_engine_to_refuse(options: Any) -> None:
    assert sent_on({"model": "m", "stream_options": options}) == ({"model": "m", "stream_options": options}, NOTHING)


def test_a_prompt_may_speak_of_it() -> None:
    body = {"model": "m", "prompt": 'what is "stream_options":{"include_usage":true}?'}
    assert sent_on(body) == ({**body, "stream_options": ALL}, NOTHING)


def test_a_name_spelt_otherwise_does_not_get_past() -> None:
    changed, _ = asking_for_usage(b'{"model":"m","stream_opt\\u0069ons":{"include_usage":false}}')
    assert json.loads(changed)["stream_options"] == ALL, "of two, engines take the last"


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=20), min_size=1))
def test_nothing_else_is_changed(body: dict[str, Any]) -> None:
    body.pop("stream_options", None)
    changed, wish = sent_on({"model": "m", **body})
    assert changed == {"model": "m", **body, "stream_options": ALL}
    assert wish == NOTHING
