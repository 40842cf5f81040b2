"""What a tenant's single requests may be: too much is refused by name, and an answer without a bound gets one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway import greed
from gateway.abuse.caps import ANSWER_FIELDS, check_caps, most_body_bytes
from gateway.endpoints import ENDPOINTS
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.peek import peek
from models.store.tenancy import Caps, TenantRecord

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
FIVE = Caps(max_answer_tokens=5)


def checked(caps: Caps, name: str = "chat.completions", **fields: Any) -> Any:
    endpoint = BY_NAME[name]
    body = json.dumps({"model": "m", endpoint.prompt_field: "word " * 100} | fields).encode()
    return json.loads(check_caps(caps, endpoint, peek(body, endpoint, greed.Caps(), frozenset()), body))


def test_what_is_within_its_caps_goes_on_as_it_is() -> None:
    caps = Caps(max_body_bytes=10_000, max_prompt_tokens=1000, max_answer_tokens=100)
    endpoint = BY_NAME["chat.completions"]
    body = b'{ "model":"m",  "messages":[], "max_tokens": 100 }'
    assert check_caps(caps, endpoint, peek(body, endpoint, greed.Caps(), frozenset()), body) is body


def test_a_prompt_that_is_too_long_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"about \d+ tokens; your tenant may send 50") as refused:
        checked(Caps(max_prompt_tokens=50))
    assert (refused.value.param, refused.value.code) == ("messages", "prompt_above_limit")


def test_counting_tokens_is_no_prompt() -> None:
    checked(Caps(max_prompt_tokens=1), "tokenize")


def test_a_body_that_grew_when_it_was_unpacked_is_too_large() -> None:
    with pytest.raises(BodyTooLarge):
        checked(Caps(max_body_bytes=50))


@pytest.mark.parametrize("name", sorted(ANSWER_FIELDS))
def test_more_than_it_may_ask_for_is_refused(name: str) -> None:
    field = ANSWER_FIELDS[name]
    assert checked(FIVE, name, **{field: 5})[field] == 5
    with pytest.raises(InvalidRequest, match="above the 5 tokens") as refused:
        checked(FIVE, name, **{field: 6})
    assert refused.value.param == field


def test_each_choice_may_be_so_long() -> None:
    assert checked(FIVE, max_tokens=5, n=3)["n"] == 3
    with pytest.raises(InvalidRequest):
        checked(FIVE, max_tokens=6, n=3)


@pytest.mark.parametrize("name", sorted(ANSWER_FIELDS))
@pytest.mark.parametrize("unsaid", [{}, "null"])
def test_an_answer_without_a_bound_gets_the_cap(name: str, unsaid: Any) -> None:
    field = ANSWER_FIELDS[name]
    assert checked(FIVE, name, **({field: None} if unsaid else {}))[field] == 5


def test_what_an_engine_may_read_otherwise_is_overruled() -> None:
    assert checked(FIVE, max_tokens="500")["max_tokens"] == 5
    assert checked(FIVE, max_output_tokens=1)["max_tokens"] == 5
    assert "max_completion_tokens" not in checked(FIVE, max_completion_tokens="500")


def test_completions_stay_as_short_as_they_are_by_default() -> None:
    assert checked(Caps(max_answer_tokens=5000), "completions")["max_tokens"] == 16


def test_what_has_no_answer_in_tokens_is_left_alone() -> None:
    assert "max_tokens" not in checked(FIVE, "embeddings")


def test_of_a_tenants_cap_and_the_servers_the_smaller_counts() -> None:
    assert most_body_bytes(TenantRecord(tenant_id="t"), 100) == 100
    assert most_body_bytes(TenantRecord(tenant_id="t", caps=Caps(max_body_bytes=50)), 100) == 50
    assert most_body_bytes(TenantRecord(tenant_id="t", caps=Caps(max_body_bytes=500)), 100) == 100
