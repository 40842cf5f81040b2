"""Calls become rows, rows columns, and columns rows again."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client.call import Ask, Call
from loadtests.outcome.rows import Row, columns, row_of, rows
from tests.loadtests.outcome.made import row


def call(**fields: object) -> Call:
    made = Call(Ask("m", "chat", b""), scheduled_s=10.0, sent_s=10.001)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_times_count_from_the_runs_beginning_in_microseconds() -> None:
    seen = call(connect_s=0.0005, first_byte_s=10.1, token_times_s=[10.2, 10.25, 10.35], ended_s=10.4)
    made = row_of(seen, 9.0, phase=1, worker=2)
    assert (made.scheduled_us, made.sent_us, made.connect_us) == (1_000_000, 1_001_000, 500)
    assert (made.first_byte_us, made.first_token_us, made.end_us) == (1_100_000, 1_200_000, 1_400_000)
    assert made.gaps_us == [50_000, 100_000]
    assert (made.ttft_us, made.e2e_us, made.late_us) == (200_000, 400_000, 1_000)
    assert (made.phase, made.worker, made.output_tokens) == (1, 2, 3)


def test_in_a_closed_load_callers_wait_from_when_they_sent() -> None:
    made = row_of(call(scheduled_s=None, token_times_s=[10.5], ended_s=10.6), 10.0, phase=0)
    assert (made.scheduled_us, made.late_us, made.ttft_us) == (None, None, 499_000)


def test_the_servers_count_of_tokens_goes_before_the_events() -> None:
    assert row_of(call(token_times_s=[1.0, 2.0], output_tokens=7, ended_s=3.0), 0.0, phase=0).output_tokens == 7


texts = st.sampled_from(["", "a", "b", "ä"])
some = st.none() | st.integers(0, 10**9)
made_rows = st.builds(
    Row, scheduled_us=some, sent_us=st.integers(0, 10**9), connect_us=some, first_byte_us=some, first_token_us=some,
    end_us=st.integers(0, 10**9), gaps_us=st.lists(st.integers(0, 10**6)), input_tokens=some, output_tokens=some,
    stream=st.booleans(), status=st.integers(0, 599), phase=st.integers(0, 9), turn=st.integers(0, 9),
    worker=st.integers(0, 9), model=texts, dialect=texts, tenant=texts, tag=texts, error=texts, message=texts,
    head_us=some,
    timing_ms=st.dictionaries(st.sampled_from(["auth", "queue"]), st.floats(0, 1e6)),
)  # fmt: skip


@given(st.lists(made_rows))
def test_columns_lose_nothing_on_their_way_through_json(found: list[Row]) -> None:
    document = msgspec.json.decode(msgspec.json.encode(columns(found)))
    assert rows(document) == found


def test_texts_are_written_once() -> None:
    made = columns([row(model="b"), row(model="a"), row(model="b"), row(error="timeout", message="late")])
    assert made["names"]["model"] == ["a", "b", "m"]
    assert made["columns"]["model"] == [1, 0, 1, 2]
    assert made["columns"]["error"] == [None, None, None, 0]
    assert made["count"] == 4


def test_columns_of_something_else_are_refused() -> None:
    with pytest.raises(KeyError):
        rows({"count": 1, "columns": {}, "names": {}, "server_timing_ms": {}})


def test_a_run_from_before_heads_were_kept_is_read() -> None:
    made = columns([row()])
    del made["columns"]["head_us"]
    assert rows(made)[0].head_us is None
