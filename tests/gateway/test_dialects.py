"""Every error in the form that the caller's SDK expects."""

from __future__ import annotations

import json

import pytest

from gateway import errors
from gateway.dialects import Dialect, dialect_of, error_body, error_event
from gateway.errors import GatewayError, HoldQueueFull, InvalidRequest, MethodNotAllowed, ModelNotFound, Unauthorized

ERROR = InvalidRequest("n is too large.", param="n", code="too_large")


def tree(of: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    return [of, *(leaf for branch in of.__subclasses__() for leaf in tree(branch))]


def test_openai() -> None:
    inner = {"message": "n is too large.", "type": "invalid_request_error", "param": "n", "code": "too_large"}
    assert json.loads(error_body(ERROR, Dialect.OPENAI, "req_1")) == {"error": inner}


def test_anthropic_with_openais_fields_besides() -> None:
    document = json.loads(error_body(ERROR, Dialect.ANTHROPIC, "req_1"))
    assert document["type"] == "error"
    assert document["request_id"] == "req_1"
    assert document["error"] == {
        "type": "invalid_request_error", "message": "n is too large.", "param": "n", "code": "too_large",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unauthorized("no"), "authentication_error"),
        (ModelNotFound("m"), "not_found_error"),
        (HoldQueueFull("full"), "rate_limit_error"),
        (errors.Unavailable("later"), "overloaded_error"),
        (errors.Forbidden("no"), "permission_error"),
        (errors.EngineError("oh"), "api_error"),
        (errors.Conflict("oh"), "invalid_request_error"),
    ],
)
def test_anthropics_names_of_errors(error: GatewayError, kind: str) -> None:
    assert json.loads(error_body(error, Dialect.ANTHROPIC, "r"))["error"]["type"] == kind


def test_an_event_is_one_event() -> None:
    for dialect in Dialect:
        event = error_event(ERROR, dialect, "req_1")
        name, data, *rest = event.decode().split("\n")
        assert name == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"]["message"] == ERROR.message
        assert rest == ["", ""]


def test_a_responses_event_carries_its_type_inside() -> None:
    data = json.loads(error_event(ERROR, Dialect.RESPONSES, "r").split(b"data: ")[1])
    assert (data["type"], data["code"], data["message"]) == ("error", "too_large", ERROR.message)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", Dialect.ANTHROPIC),
        ("/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/v1/messages/nothing/here", Dialect.ANTHROPIC),
        ("/v1/messagesque", Dialect.OPENAI),
        ("/v1/chat/completions", Dialect.OPENAI),
        ("/", Dialect.OPENAI),
    ],
)
def test_the_path_tells_the_dialect(path: str, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


def test_every_error_of_the_tree_has_a_status_and_a_type() -> None:
    for kind in tree():
        assert 400 <= kind.status < 600, kind
        # OpenAI's own word for a budget that is used up is the last one.
        assert kind.type in ("invalid_request_error", "rate_limit_error", "server_error", "insufficient_quota"), kind
        assert (kind.type == "server_error") == (kind.status >= 500 or kind.status == 499), kind


def test_retry_after_is_in_whole_seconds_and_at_least_one() -> None:
    for seconds, said in ((0.0, "1"), (0.2, "1"), (1.01, "2"), (30, "30")):
        assert HoldQueueFull("full", retry_after_s=seconds).headers() == [("retry-after", said)]


def test_headers_that_belong_to_an_error() -> None:
    assert Unauthorized("no").headers()[0][0] == "www-authenticate"
    assert MethodNotAllowed("GET", "/x", {"POST", "OPTIONS"}).headers() == [("allow", "OPTIONS, POST")]


def test_what_callers_made_up_is_not_repeated_at_length() -> None:
    assert len(ModelNotFound("x" * 100_000).message) < 400
    assert len(MethodNotAllowed("G" * 1000, "/" * 100_000, {"GET"}).message) < 400
