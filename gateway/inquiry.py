"""What is known of a checked inference request before it goes to an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.endpoints import Endpoint
from gateway.headers import Headers

if TYPE_CHECKING:
    from gateway.accounts import Account
    from models.store.records import KeyRecord

ORDINARY = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request is made. ``tenant``: among these work is shared out. ``key_id``: owns what is kept.

    ``weight``: its tenant's share beside others. ``priority``: the highest it may ask for; higher goes first.
    ``share``: of a model's work, guaranteed to its tenant. ``key_weight``: its share of its tenant's. ``key``: all that
    is known of its key, whose limits hold for what is asked later in its name.
    """

    tenant: str
    name: str = ""
    weight: float = 1.0
    priority: int = ORDINARY
    key_id: str = ""
    project: str = ""
    share: float = 0.0
    key_weight: float = 1.0
    key: KeyRecord | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)  # not frozen: that would make it three times as dear, and there is one per request
class Peek:
    """What the gateway reads of a body (``gateway.peek``).

    ``tokens``: about how much work the request is, prompt and answer together; never 0. ``answer_tokens``: of those the
    answer's, of all ``prompts`` and all ``choices`` of each together; ``bounded``: it cannot have more, the caller said
    so (or it has none). ``again_bytes``: of the body, what an engine reads once more with each text that it is compared
    to. ``prefix``: a hash of the prompt's head, for affinity; 0 where there is none.
    """

    model: str
    stream: bool = False
    tokens: int = 1
    prefix: int = 0
    answer_tokens: int = 0
    bounded: bool = True
    choices: int = 1
    prompts: int = 1
    again_bytes: int = 0


@dataclass(slots=True)
class Inquiry:
    """One request. ``deadline_s``: of the monotonic clock; until then it may be held.

    ``session``: a hash of what the caller named its session by (header x-session-id, or the body's ``user``); 0: none.
    """

    endpoint: Endpoint
    account: Account
    caller: Caller  # the account's; within the gateway perhaps with another priority
    headers: Headers  # lower-case names, as received
    body: bytes
    peek: Peek
    deadline_s: float
    session: int = 0
    priority: int = ORDINARY
    path_model: str | None = None  # where the path names it
    avoid: tuple[str, ...] = field(default=())  # replicas that it was lost on
