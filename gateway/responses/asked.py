"""What a request to /v1/responses asks of us, apart from what it asks of the model; and what is passed on of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.errors import InvalidRequest

_KEPT_BACK = ("background", "previous_response_id", "conversation")


class Asked(msgspec.Struct, frozen=True):
    """Odd values are told apart from none: they are refused, not overlooked."""

    store: Any = None
    background: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    stream: Any = None

    @property
    def for_us(self) -> bool:
        """Whether there is anything to do but to pass it on."""
        return self.store is not False or bool(self.background or self.previous_response_id or self.conversation)

    def check(self) -> None:
        """Raises InvalidRequest."""
        if self.conversation is not None:
            message = "Conversations are not kept here; continue one by 'previous_response_id'."
            raise InvalidRequest(message, param="conversation", code="unsupported_parameter")
        for param in ("store", "background"):
            if not isinstance(getattr(self, param), bool | None):
                raise InvalidRequest(f"The field '{param}' must be true or false.", param=param)
        previous = self.previous_response_id
        if previous is not None and (not isinstance(previous, str) or not previous):
            message = "The field 'previous_response_id' must be the id of a response."
            raise InvalidRequest(message, param="previous_response_id")
        if self.background and self.store is False:
            message = "A response made in the background has to be kept: leave 'store' out or set it to true."
            raise InvalidRequest(message, param="store")
        if self.background and self.stream:
            message = "A response made in the background cannot be streamed here; poll GET /v1/responses/{id}."
            raise InvalidRequest(message, param="stream", code="unsupported_parameter")


ASKED = msgspec.json.Decoder(Asked)
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def passed_on(fields: dict[str, msgspec.Raw], items: Sequence[msgspec.Raw]) -> bytes:
    """The body for the engine: it gets the whole conversation, and keeps nothing itself."""
    kept = {name: value for name, value in fields.items() if name not in _KEPT_BACK}
    return msgspec.json.encode({**kept, "input": items, "store": False})
