"""An engine's errors become ours: the useful sentence stays, the internals go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import by_path
from gateway.engine_errors import LONGEST_MESSAGE, is_safe, rewrite
from gateway.errors import GatewayError

ENDPOINTS = by_path()


def rewritten(status: int, body: Any, path: str = "/v1/chat/completions") -> GatewayError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rewrite(status, raw, endpoint=ENDPOINTS[path], model="m", request_id="req_1")


def vllm(message: str, code: Any = 400, param: str | None = None) -> Any:
    return {"error": {"message": message, "type": "BadRequestError", "param": param, "code": code}}


def test_a_refusal_keeps_its_message_and_names_the_parameter() -> None:
    error = rewritten(400, vllm("temperature must be in [0, 2], got 99.0.", param="temperature"))
    assert (error.status, error.type, error.code, error.param) == (400, "invalid_request_error", None, "temperature")
    assert error.message == "temperature must be in [0, 2], got 99.0."


def test_the_parameter_is_read_from_the_message_when_the_engine_does_not_say() -> None:
    for message in (
        "temperature must be at least 0, got -1.",
        "`top_p` should be in (0, 1]",
        "'top_p' must be positive",
    ):
        assert rewritten(400, vllm(message)).param in ("temperature", "top_p")
    assert rewritten(400, vllm("This is not allowed.")).param is None


def test_a_code_that_repeats_the_status_becomes_null_and_a_word_stays() -> None:
    assert rewritten(400, vllm("No.", code=400)).code is None
    assert rewritten(400, vllm("No.", code="invalid_prompt")).code == "invalid_prompt"
    assert rewritten(400, vllm("No.", code="<script>")).code is None


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/chat/completions", "messages"),
        ("/v1/completions", "prompt"),
        ("/v1/embeddings", "input"),
        ("/v1/responses", "input"),
    ],
)
def test_a_too_long_prompt_has_openais_code_and_names_the_field_to_shorten(path: str, param: str) -> None:
    message = (
        "This model's maximum context length is 1024 tokens. However, your prompt contains at least 1025 input tokens, "
        "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt."
    )
    error = rewritten(400, vllm(message, param="input_tokens"), path)
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", param)
    assert "1024 tokens" in error.message


def test_vllms_list_of_validation_errors_becomes_its_first_sentence() -> None:
    message = (
        "2 validation errors:\n  {'type': 'list_type', 'loc': 'body.messages', 'msg': 'Input should be a valid list', "
        "'input': 'hi'}\n  {'type': 'missing', 'loc': 'body.x', 'msg': 'Field required', 'input': {}}"
    )
    error = rewritten(400, vllm(message, param="body.messages"))
    assert (error.message, error.param) == ("messages: Input should be a valid list", "messages")


def test_a_validation_sentence_may_hold_quotes() -> None:
    message = (
        """1 validation error:\n  {'type': 'x', 'loc': 'body.n', 'msg': "Input should be 'a' or 'b'", 'input': 1}"""
    )
    assert rewritten(400, vllm(message)).message == "Input should be 'a' or 'b'"


@pytest.mark.parametrize(
    ("said", "param", "shown"),
    [
        (
            "temperature must be in [0, 2], got 99.0. (parameter=temperature, value=99.0)",
            "temperature",
            "temperature must be in [0, 2], got 99.0.",
        ),
        ("stop is wrong. (parameter=stop, value=f(x))", "stop", "stop is wrong."),
        (
            "n must be at most 16384, got 100000. To increase this limit, set the VLLM_MAX_N_SEQUENCES "
            "environment variable.",
            "n",
            "n must be at most 16384, got 100000.",
        ),
        ("it must be shorter", None, "it must be shorter"),
    ],
)
def test_what_is_meant_for_operators_is_left_out(said: str, param: str | None, shown: str) -> None:
    """As vLLM 0.32 says it."""
    error = rewritten(400, vllm(said))
    assert (error.message, error.param) == (shown, param)


@pytest.mark.parametrize("piece", ["'msg': '", "(parameter=(", "a ", "VLLM_ ", "1 validation error: 'msg': \"", "/x/"])
def test_a_message_made_to_be_slow_to_search_is_searched_only_so_far(piece: str) -> None:
    """64 KB of it would take minutes if the whole were searched; the test's own time limit would end it."""
    for start in ("", "1 validation error:\n"):
        error = rewritten(400, vllm(start + piece * (64_000 // len(piece))))
        assert len(error.message) <= LONGEST_MESSAGE + 120


def test_fastapis_own_422_is_understood() -> None:
    body = {"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]}
    error = rewritten(422, body)
    assert (error.status, error.param, error.message) == (422, "messages", "messages: Field required")


def test_other_shapes_are_understood() -> None:
    assert rewritten(400, {"object": "error", "message": "Old vLLM."}).message == "Old vLLM."
    assert rewritten(400, {"error": "Plain."}).message == "Plain."
    anthropic = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens is required"}}
    error = rewritten(400, anthropic, "/v1/messages")
    assert (error.message, error.param) == ("max_tokens is required", "max_tokens")


@pytest.mark.parametrize(
    "message",
    [
        'Traceback (most recent call last):\n  File "/opt/x.py", line 1',
        "cannot open /home/op/models/secret/config.json",
        "Error in /usr/lib/python3/site-packages/vllm/engine.py",
        "weights at '/mnt/weights/model.safetensors' are bad",
        "see ~/models/x for more",
        "ray::Actor.run() failed",
        "redis.exceptions.ConnectionError: refused",
        "<vllm.Thing object at 0x7f3a2b1c>",
        "",
    ],
)
def test_internals_never_reach_the_caller(message: str) -> None:
    error = rewritten(400, vllm(message))
    assert error.message == "The model 'm' rejected the request."
    assert not is_safe(message)


@pytest.mark.parametrize(
    "message",
    [
        "The model `meta-llama/Llama-3.1-8B` does not exist.",
        "max_tokens and/or min_tokens are wrong: 5/4",
        "Use /v1/embeddings for this model.",
        "Invalid date 2026/11/21 in the template",
    ],
)
def test_ordinary_slashes_are_no_paths(message: str) -> None:
    assert rewritten(400, vllm(message)).message == message


def test_only_the_first_line_and_not_too_much_of_it() -> None:
    assert rewritten(400, vllm("\n\n  First.\nSecond.")).message == "First."
    assert len(rewritten(400, vllm("word " * 1000)).message) == LONGEST_MESSAGE


@pytest.mark.parametrize("status", [500, 502, 504, 599, 401, 403, 407])
def test_a_failure_is_a_generic_sentence_with_the_request_id(status: int) -> None:
    error = rewritten(status, vllm("CUDA out of memory on worker 3 of host gpu-17"))
    assert error.status == (500 if status == 500 else 502)
    assert error.type == "server_error"
    assert "req_1" in error.message
    assert "CUDA" not in error.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),
        (404, vllm("Not Found", code=404)),
        (405, {"detail": "Method Not Allowed"}),
        (404, b""),
        (501, vllm("The model does not support Chat Completions API", code=501)),
        (404, vllm("The model does not support Responses API", code=404)),
    ],
)
def test_an_endpoint_that_the_model_does_not_have(status: int, body: Any) -> None:
    error = rewritten(status, body)
    assert (error.status, error.code, error.param) == (400, "unsupported_endpoint", "model")
    assert "/v1/chat/completions" in error.message


def test_something_else_that_is_not_found_stays_not_found() -> None:
    error = rewritten(404, vllm("Response with id 'resp_1' not found.", code=404), "/v1/responses")
    assert error.status == 404
    assert "resp_1" in error.message


@pytest.mark.parametrize(("status", "code"), [(429, "engine_overloaded"), (503, "engine_not_ready")])
def test_come_again(status: int, code: str) -> None:
    error = rewritten(status, vllm("queue of 17 on gpu 3"))
    assert (error.status, error.code, dict(error.headers())) == (status, code, {"retry-after": "1"})
    assert "gpu" not in error.message


@given(st.integers(400, 599), st.binary(max_size=300))
def test_whatever_an_engine_says_there_is_a_safe_answer(status: int, body: bytes) -> None:
    error = rewritten(status, body)
    assert 400 <= error.status < 600
    assert is_safe(error.message)


@given(st.text(max_size=300), st.text(max_size=30), st.text(max_size=30) | st.integers())
def test_whatever_is_in_the_fields_the_answer_is_safe(message: str, param: str, code: Any) -> None:
    error = rewritten(400, vllm(message, code=code, param=param))
    assert is_safe(error.message)
    assert "\n" not in error.message
    assert error.code is None or isinstance(error.code, str)
