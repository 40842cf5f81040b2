"""What a request asks of its limits, and what it turned out to use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.accounts import Account
from gateway.errors import GatewayError
from models.store.records import ModelRoute


@dataclass(slots=True)
class Need:
    """``input_tokens``, ``output_tokens``: what is likely, for rates. ``most_...``: bounds, for budgets; the answer's
    is of all ``n`` choices together."""

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

    def granted(self, hold: object) -> None: ...

    def not_granted(self, error: GatewayError) -> None: ...
