"""How an error is written: OpenAI's object, or Anthropic's under /v1/messages; as a body or as an SSE event."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from gateway.errors import GatewayError

ANTHROPIC_PREFIX = "/v1/messages"
# https://docs.anthropic.com/en/api/errors; other statuses fall back on their class (4xx, 5xx).
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Dialect(StrEnum):
    OPENAI = "openai"
    RESPONSES = "responses"  # OpenAI's, whose stream events carry their type inside
    ANTHROPIC = "anthropic"


def dialect_of(path: str) -> Dialect:
    """The dialect that a caller of ``path`` expects, also where nothing is served on it."""
    if path == ANTHROPIC_PREFIX or path.startswith(ANTHROPIC_PREFIX + "/"):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def error_object(error: GatewayError, dialect: Dialect, request_id: str) -> dict[str, Any]:
    """The whole JSON document of an error answer."""
    inner: dict[str, Any] = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    if dialect is Dialect.ANTHROPIC:
        return {"type": "error", "error": inner | {"type": anthropic_type(error.status)}, "request_id": request_id}
    return {"error": inner}


def error_body(error: GatewayError, dialect: Dialect, request_id: str) -> bytes:
    return msgspec.json.encode(error_object(error, dialect, request_id))


def error_event(error: GatewayError, dialect: Dialect, request_id: str) -> bytes:
    """A Server-Sent Event that ends a stream which already began: SDKs raise on it."""
    document = error_object(error, dialect, request_id)
    if dialect is Dialect.RESPONSES:
        # Responses API events are told apart by ``type``; ``error`` stays for clients that look for it as in chat.
        document |= {"type": "error", "code": error.code, "message": error.message, "param": error.param}
    return b"event: error\ndata: " + msgspec.json.encode(document) + b"\n\n"


def anthropic_type(status: int) -> str:
    return _ANTHROPIC_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
