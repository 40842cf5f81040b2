"""A response as it is kept, and what callers get to see besides."""

from __future__ import annotations

import re
import secrets
from typing import Any

import msgspec

ACTIVE = ("queued", "in_progress")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


class KeptResponse(msgspec.Struct, frozen=True, kw_only=True):
    """``response``: as its caller got it. ``input``: the items of this turn alone. ``ancestors``: the ids of the turns
    before it, oldest first. ``background``: made while nobody was connected, and may be cancelled."""

    id: str
    response: msgspec.Raw
    input: tuple[msgspec.Raw, ...]
    ancestors: tuple[str, ...] = ()
    background: bool = False
    status: str = "completed"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be asked in the background. ``owner``: a key's id. ``tries``: how often a worker has begun with it."""

    id: str
    owner: str
    body: msgspec.Raw
    tries: int = 0


class ItemList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[dict[str, Any], ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ResponseDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "response"
    deleted: bool = True


class ResponseObject(msgspec.Struct, kw_only=True):
    """As in OpenAI's API; the fields that every one has. The rest is as the engine wrote it."""

    id: str
    object: str
    created_at: float
    status: str
    model: str
    output: list[dict[str, Any]]


DOCUMENTS = (ResponseObject, ItemList, ResponseDeleted)


def new_response_id() -> str:
    return f"resp_{secrets.token_hex(24)}"


def is_response_id(text: str) -> bool:
    """Engines make ids too, and callers make up others."""
    return _ID.fullmatch(text) is not None
