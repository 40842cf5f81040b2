"""Request ids: the caller's when it is harmless, else a new one."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable

HEADER = "x-request-id"
LONGEST = 128
_SAFE = re.compile(rf"[A-Za-z0-9._:\-]{{1,{LONGEST}}}", re.ASCII)


_process = secrets.token_hex(10)  # 80 random bits: no other worker, before or after, has the same
_numbers = itertools.count(1)


def new_request_id() -> str:
    """Unique, not secret."""
    return f"req_{_process}{next(_numbers):012x}"


def accept(given: str | None, make: Callable[[], str] = new_request_id) -> str:
    """The id is written into logs, headers and the engine's own ids, hence the small alphabet."""
    return given if given is not None and _SAFE.fullmatch(given) else make()
