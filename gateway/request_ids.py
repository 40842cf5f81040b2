"""Request ids: the caller's when it is harmless, else a new one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

HEADER = "x-request-id"
LONGEST = 128
_SAFE = re.compile(rf"[A-Za-z0-9._:\-]{{1,{LONGEST}}}", re.ASCII)


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def accept(given: str | None, make: Callable[[], str] = new_request_id) -> str:
    """The id is written into logs, headers and the engine's own ids, hence the small alphabet."""
    return given if given is not None and _SAFE.fullmatch(given) else make()
