"""Making what is kept of what was answered: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.responses.asked import FIELDS
from gateway.responses.records import ACTIVE, KeptResponse, is_response_id

_AS_ASKED = (
    "instructions", "max_output_tokens", "max_tool_calls", "metadata", "reasoning", "temperature", "text",
    "tool_choice", "tools", "top_p", "truncation", "user",
)  # fmt: skip
_USUAL: dict[str, Any] = {"metadata": {}, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
_FAILED_CODES = {429: "rate_limit_exceeded"}
_TRUE = msgspec.Raw(b"true")


class _Event(msgspec.Struct):
    response: dict[str, msgspec.Raw]


_EVENTS = msgspec.json.Decoder(_Event)


def answered(
    document: bytes, *, in_event: bool, items: tuple[msgspec.Raw, ...], ancestors: tuple[str, ...]
) -> KeptResponse | None:
    """From an engine's answer; None when it is not a response that has an id."""
    try:
        fields = _EVENTS.decode(document).response if in_event else FIELDS.decode(document)
        response_id, status = _text(fields, "id"), _text(fields, "status")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not is_response_id(response_id):
        return None
    previous = msgspec.Raw(msgspec.json.encode(ancestors[-1] if ancestors else None))
    response = fields | {"previous_response_id": previous, "store": _TRUE}
    return KeptResponse(
        id=response_id, response=raw(response), input=items, ancestors=ancestors, status=status or "completed"
    )


def queued(
    response_id: str,
    fields: Mapping[str, msgspec.Raw],
    items: tuple[msgspec.Raw, ...],
    ancestors: tuple[str, ...],
    now_unix_s: float,
) -> KeptResponse:
    """One that is to be made in the background, as its caller gets it at once."""
    asked = {name: fields[name] for name in ("model", *_AS_ASKED) if name in fields}
    response = {
        "id": response_id,
        "object": "response",
        "created_at": int(now_unix_s),
        "status": "queued",
        "background": True,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "previous_response_id": ancestors[-1] if ancestors else None,
        "store": True,
        "usage": None,
    }
    whole = raw({**_USUAL, **asked, **response})
    return KeptResponse(
        id=response_id, response=whole, input=items, ancestors=ancestors, background=True, status="queued"
    )


def begun(kept: KeptResponse) -> KeptResponse | None:
    return _with(kept, status="in_progress") if kept.status in ACTIVE else None


def cancelled(kept: KeptResponse) -> KeptResponse | None:
    return _with(kept, status="cancelled") if kept.status in ACTIVE else None


def failed(kept: KeptResponse, status: int, message: str) -> KeptResponse | None:
    """``status``: of HTTP."""
    if kept.status not in ACTIVE:
        return None
    code = _FAILED_CODES.get(status) or ("server_error" if status >= 500 else "invalid_prompt")
    return _with(kept, status="failed", error={"code": code, "message": message})


def finished(kept: KeptResponse, document: bytes) -> KeptResponse | None:
    """``document``: the engine's answer. It keeps the id and the time under which its caller knows it."""
    if kept.status not in ACTIVE:
        return None
    made = answered(document, in_event=False, items=kept.input, ancestors=kept.ancestors)
    if made is None:
        return failed(kept, 502, "The engine's answer is no response.")
    known = FIELDS.decode(kept.response)
    fields = FIELDS.decode(made.response) | {"id": known["id"], "created_at": known["created_at"], "background": _TRUE}
    return msgspec.structs.replace(made, id=kept.id, response=raw(fields), background=True)


def raw(document: Mapping[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(document))


def _with(kept: KeptResponse, status: str, **fields: Any) -> KeptResponse:
    response = raw({**FIELDS.decode(kept.response), "status": status, **fields})
    return msgspec.structs.replace(kept, status=status, response=response)


def _text(fields: Mapping[str, msgspec.Raw], name: str) -> str:
    return msgspec.json.decode(fields[name], type=str) if name in fields else ""
