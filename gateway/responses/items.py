"""The items of a conversation, in OpenAI's Responses format: pure functions of JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.responses.records import KeptResponse

_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class _Output(msgspec.Struct):
    output: list[msgspec.Raw] = []


_OUTPUT = msgspec.json.Decoder(_Output)


def own_items(given: msgspec.Raw) -> tuple[msgspec.Raw, ...]:
    """The ``input`` of a request as items; a text is a message of the user's. Raises InvalidRequest."""
    raw = bytes(given).strip()
    if raw.startswith(b'"'):
        message = {"type": "message", "role": "user", "content": msgspec.Raw(raw)}
        return (msgspec.Raw(msgspec.json.encode(message)),)
    if not raw.startswith(b"["):
        raise InvalidRequest("The field 'input' must be a text or an array of items.", param="input")
    # Copied: what is cut out of the body would keep all of it in memory.
    return tuple(msgspec.Raw(bytes(item)) for item in _LIST.decode(raw))


def turn(kept: KeptResponse) -> list[msgspec.Raw]:
    """What was said in one turn, by both sides."""
    return [*kept.input, *_OUTPUT.decode(kept.response).output]


def conversation(turns: Sequence[KeptResponse]) -> list[msgspec.Raw]:
    """Oldest first. Instructions are no items: they hold for their own turn only, as in OpenAI's API."""
    return [item for kept in turns for item in turn(kept)]


def listed(response_id: str, items: Sequence[msgspec.Raw]) -> list[dict[str, Any]]:
    """As GET .../input_items shows them: typed, each with an id, the same one every time."""
    shown = []
    for number, raw in enumerate(items):
        item = msgspec.json.decode(raw)
        if isinstance(item, dict):
            shown.append(_listed(response_id, number, item))
    return shown


def _listed(response_id: str, number: int, item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type") or "message"
    item = {"type": kind} | item
    if kind == "message":
        item.setdefault("status", "completed")
        text = item.get("content")
        if isinstance(text, str):
            by_model = item.get("role") == "assistant"
            part = {"type": "output_text", "text": text, "annotations": []} if by_model else None
            item["content"] = [part or {"type": "input_text", "text": text}]
    if not item.get("id"):
        prefix = "msg" if kind == "message" else "item"
        item["id"] = f"{prefix}_{hashlib.sha256(f'{response_id}/{number}'.encode()).hexdigest()[:32]}"
    return item
