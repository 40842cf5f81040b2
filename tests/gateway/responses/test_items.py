"""Conversations as items, and what is kept of answers: no id, no secret, no turn is lost or made up."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from gateway.errors import InvalidRequest
from gateway.responses import kept as states
from gateway.responses.asked import ASKED, FIELDS, passed_on
from gateway.responses.items import conversation, listed, own_items
from gateway.responses.records import KeptResponse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def plain(items: Any) -> list[Any]:
    return [msgspec.json.decode(item) for item in items]


def answer(text: str, **fields: Any) -> bytes:
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return json.dumps({"id": "resp_1", "status": "completed", "output": [message], **fields}).encode()


def kept(document: bytes, *items: Any, ancestors: tuple[str, ...] = ()) -> KeptResponse:
    found = states.answered(document, in_event=False, items=tuple(map(raw, items)), ancestors=ancestors)
    assert found is not None
    return found


def test_a_text_is_a_message_of_the_users() -> None:
    assert plain(own_items(raw('say "hi"\n\u2603'))) == [
        {"type": "message", "role": "user", "content": 'say "hi"\n\u2603'}
    ]


@given(st.lists(json_values, max_size=5))
def test_items_stay_as_they_are(items: list[Any]) -> None:
    assert plain(own_items(raw(items))) == items


@pytest.mark.parametrize("value", [None, 1, True, {"role": "user"}])
def test_an_input_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        own_items(raw(value))
    assert refused.value.param == "input"


@given(
    fields=st.dictionaries(
        st.sampled_from(["model", "tools", "metadata", "extra", "store", "background", "conversation", "stream"]),
        json_values,
    ),
    items=st.lists(json_values, max_size=3),
)
def test_what_is_passed_on_is_what_was_asked_but_for_what_we_do(fields: dict[str, Any], items: list[Any]) -> None:
    body = passed_on(FIELDS.decode(json.dumps(fields | {"previous_response_id": "r"})), [raw(item) for item in items])
    for_us = ("background", "conversation", "previous_response_id")
    expected = {name: value for name, value in fields.items() if name not in for_us}
    assert msgspec.json.decode(body) == expected | {"input": items, "store": False}


def test_a_conversation_is_all_that_was_said() -> None:
    first = kept(answer("one!"), {"role": "user", "content": "one"})
    second = kept(answer("two!"), {"role": "user", "content": "two"}, ancestors=("resp_0",))
    said = [item["content"] for item in plain(conversation([first, second]))]
    assert said == ["one", [{"type": "output_text", "text": "one!"}], "two", [{"type": "output_text", "text": "two!"}]]


def test_listed_items_are_typed_and_have_ids() -> None:
    items = [
        raw({"role": "user", "content": "hi"}),
        raw({"role": "assistant", "content": "ho"}),
        raw({"type": "function_call_output", "call_id": "c", "output": "3"}),
        raw({"type": "message", "id": "msg_x", "role": "user", "content": [{"type": "input_text", "text": "a"}]}),
        raw("nonsense"),
    ]
    shown = listed("resp_1", items)
    assert [item["type"] for item in shown] == ["message", "message", "function_call_output", "message"]
    assert shown[0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert shown[1]["content"] == [{"type": "output_text", "text": "ho", "annotations": []}]
    assert shown[3]["id"] == "msg_x"
    assert shown == listed("resp_1", items), "the same ids every time"
    assert len({item["id"] for item in shown}) == 4


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b'{"id": 1}',
        b'{"id": "a/b"}',
        b'{"id": ""}',
        b'{"id": "../x"}',
        b'{"id": "\xff"}',
    ],
)
def test_an_answer_without_a_usable_id_is_not_kept(document: bytes) -> None:
    assert states.answered(document, in_event=False, items=(), ancestors=()) is None


def test_what_is_kept_says_what_it_continues() -> None:
    found = kept(answer("x", previous_response_id=None), "x", ancestors=("resp_a", "resp_b"))
    shown = msgspec.json.decode(found.response)
    assert (shown["previous_response_id"], shown["store"]) == ("resp_b", True)


def test_a_queued_response_is_one_for_the_official_client() -> None:
    fields = FIELDS.decode(b'{"model": "m", "metadata": {"a": "b"}, "temperature": 0.5, "input": "secret"}')
    queued = states.queued("resp_9", fields, (), ("resp_8",), 123.9)
    shown = Response.model_validate_json(bytes(queued.response))
    assert (shown.id, shown.status, shown.created_at, shown.previous_response_id) == ("resp_9", "queued", 123, "resp_8")
    assert (shown.metadata, shown.temperature, shown.background) == ({"a": "b"}, 0.5, True)
    assert b"secret" not in bytes(queued.response)


def test_from_queued_to_done_under_the_same_name() -> None:
    queued = states.queued("resp_9", FIELDS.decode(b'{"model": "m"}'), (raw("x"),), (), 123)
    begun = states.begun(queued)
    assert begun is not None
    done = states.finished(begun, answer("made", id="resp_engine", created_at=999))
    assert done is not None
    shown = msgspec.json.decode(done.response)
    assert (shown["id"], shown["created_at"], shown["status"], shown["background"]) == (
        "resp_9", 123, "completed", True
    )  # fmt: skip
    assert (done.id, done.status, done.background, done.input) == ("resp_9", "completed", True, queued.input)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "invalid_prompt"), (404, "invalid_prompt"), (429, "rate_limit_exceeded"), (503, "server_error")],
)
def test_from_queued_to_failed(status: int, code: str) -> None:
    failed = states.failed(states.queued("r", {}, (), (), 0), status, "why")
    assert failed is not None
    assert msgspec.json.decode(failed.response)["error"] == {"code": code, "message": "why"}


def test_an_answer_that_is_no_response_fails_it() -> None:
    done = states.finished(states.queued("r", {}, (), (), 0), b"<html>")
    assert done is not None
    assert done.status == "failed"


@pytest.mark.parametrize("change", ["begun", "cancelled", "failed", "finished"])
def test_the_first_end_counts(change: str) -> None:
    cancelled = states.cancelled(states.queued("r", {}, (), (), 0))
    assert cancelled is not None
    changed = {
        "begun": lambda: states.begun(cancelled),
        "cancelled": lambda: states.cancelled(cancelled),
        "failed": lambda: states.failed(cancelled, 500, "x"),
        "finished": lambda: states.finished(cancelled, answer("late")),
    }[change]()
    assert changed is None


@pytest.mark.parametrize(
    ("body", "for_us"),
    [
        (b"{}", True),
        (b'{"store": true}', True),
        (b'{"store": null}', True),
        (b'{"store": false}', False),
        (b'{"store": false, "previous_response_id": "r"}', True),
        (b'{"store": false, "background": true}', True),
        (b'{"store": false, "conversation": "c"}', True),
        (b'{"store": 0}', True),
    ],
)
def test_what_is_for_us(body: bytes, for_us: bool) -> None:
    assert ASKED.decode(body).for_us == for_us
