"""What a request asks of its limits, and what it turned out to use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.accounts import Account
from gateway.errors import GatewayError
from gateway.exchange import Usage
from gateway.inquiry import Inquiry
from models.store.records import ModelRoute

if TYPE_CHECKING:
    from gateway.limits.hold import Hold

# One conversation, one prompt: it is no longer than the model's context. Others take lists of prompts.
_ONE_PROMPT = frozenset({"chat.completions", "messages", "responses"})
_SPELT_OUT = re.compile(rb"\\u00(?:[67]|3[46])")  # a letter of those words, or a digit
_LONGEST_ANSWER_TOKENS = 1 << 20  # where a model's context is not known


@dataclass(slots=True)
class Need:
    """``input_tokens``, ``output_tokens``: what is likely, for rates. ``most_...``: bounds, for budgets; the answer's
    is of all prompts and choices together."""

    account: Account
    route: ModelRoute
    input_tokens: int
    output_tokens: int
    most_input_tokens: int
    most_output_tokens: int


@dataclass(slots=True)
class Used:
    """``gpu_us``: of whole GPUs, as far as this worker can tell. ``answered``: false where it came to nothing by no
    fault of the caller's; then its request does not count either."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    gpu_us: int = 0
    gib_us: int = 0
    answered: bool = True


class Seat(Protocol):
    """Who waits for the store's word. Told once, from the event loop, and not after ``Limiter.leave``."""

    def granted(self, hold: Hold) -> None: ...

    def not_granted(self, error: GatewayError) -> None: ...


def need_of(account: Account, route: ModelRoute, inquiry: Inquiry) -> Need:
    """A token is at least a byte of the body; what a chat's template adds is less than what its JSON does. Only of
    pictures, sound and video nobody knows before they are decoded: they may fill the model's context."""
    peek, endpoint = inquiry.peek, inquiry.endpoint
    if not endpoint.uses_tokens:
        return Need(account, route, 0, 0, 0, 0)
    answer, longest = peek.answer_tokens, route.max_model_len
    most = len(inquiry.body) + peek.again_bytes
    if longest is not None and endpoint.name in _ONE_PROMPT and (most > longest or _has_media(inquiry)):
        most = longest
    if peek.bounded:
        return Need(account, route, peek.tokens - answer, answer, most, answer)
    most_answer = (longest or _LONGEST_ANSWER_TOKENS) * peek.choices * peek.prompts
    return Need(account, route, peek.tokens - answer, answer, most, most_answer)


def _has_media(inquiry: Inquiry) -> bool:
    """Never wrongly no: all names of URLs end in url, and Anthropic's that have none say base64."""
    body = inquiry.body
    if body.find(b"[", body.find(b"[") + 1) < 0 and inquiry.endpoint.prompt_field == "messages":
        return False  # parts are in a list inside the conversation's: the usual request has none, and waits for no more
    if b'url"' in body or b'"base64"' in body:
        return True
    return b"\\u00" in body and _SPELT_OUT.search(body) is not None


def used_by(usage: Usage | None, gpu_us: float, gib_us: float, *, answered: bool) -> Used:
    """``usage``: None where no engine counted anything."""
    if usage is None:
        return Used(0, 0, 0, round(gpu_us), round(gib_us), answered)
    return Used(usage.prompt, usage.cached, usage.completion, round(gpu_us), round(gib_us), answered)
