"""What is done around requests to /v1/responses, in the data plane (``gateway.plane.outlet.Extension``)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from gateway.abuse.caps import check_prompt
from gateway.clock import Clock
from gateway.endpoints import Endpoint
from gateway.errors import InvalidRequest
from gateway.inquiry import Inquiry, Peek
from gateway.plane.outlet import Ready, Tap
from gateway.responses import kept
from gateway.responses.asked import ASKED, FIELDS, Asked, passed_on
from gateway.responses.background import Background
from gateway.responses.items import conversation, own_items
from gateway.responses.records import Job, KeptResponse, new_response_id
from gateway.responses.shelf import Responses
from gateway.responses.taps import StreamTap, WholeTap

ENDPOINT = "responses"  # its name in gateway.endpoints
_NOTHING = msgspec.Raw(b"[]")

log = structlog.get_logger(__name__)


class RememberedBody(bytes):
    """A request body that remembers what is to be kept beside its answer: it lives as long as the request does."""

    items: tuple[msgspec.Raw, ...]
    ancestors: tuple[str, ...]

    @classmethod
    def of(cls, body: bytes, items: tuple[msgspec.Raw, ...], ancestors: tuple[str, ...]) -> RememberedBody:
        remembered = cls(body)
        remembered.items, remembered.ancestors = items, ancestors
        return remembered


class ResponsesExtension:
    """``look``: what the data plane reads of a body (``gateway.peek``), for one that was changed."""

    def __init__(
        self,
        responses: Responses,
        background: Background,
        clock: Clock,
        look: Callable[[bytes, Endpoint], Peek],
    ) -> None:
        self._responses, self._background, self._clock, self._look = responses, background, clock, look

    def wants(self, inquiry: Inquiry) -> bool:
        return _asked(inquiry.body).for_us

    async def prepare(self, inquiry: Inquiry, request_id: str) -> Ready | None:
        """1. The whole conversation goes to the engine. 2. In the background: the caller has an answer at once.
        3. Else it is kept when it is done, unless that is not wanted. Raises GatewayError."""
        asked = _asked(inquiry.body)
        asked.check()
        fields = FIELDS.decode(inquiry.body)
        items = own_items(fields.get("input", _NOTHING))
        owner, body = inquiry.caller.key_id, inquiry.body
        ancestors: tuple[str, ...] = ()
        if asked.previous_response_id or asked.background:  # 1
            turns = await self._responses.turns(owner, asked.previous_response_id) if asked.previous_response_id else []
            body = passed_on(fields, [*conversation(turns), *items])
            if len(body) > self._responses.limits.input_bytes:
                message = (
                    f"The conversation is larger than the {self._responses.limits.input_bytes} bytes of a request."
                )
                raise InvalidRequest(message, param="previous_response_id", code="conversation_too_long")
            ancestors = tuple(turn.id for turn in turns)
            inquiry.peek = self._look(body, inquiry.endpoint)
            check_prompt(inquiry.account.tenant.caps, inquiry.endpoint, inquiry.peek)
        if asked.background:  # 2
            return await self._later(inquiry, fields, body, items, ancestors)
        inquiry.body = body if asked.store is False else RememberedBody.of(body, items, ancestors)  # 3
        return None

    def tap(self, inquiry: Inquiry, request_id: str) -> Tap | None:
        body = inquiry.body
        if not isinstance(body, RememberedBody):
            return None
        owner, in_event = inquiry.caller.key_id, inquiry.peek.stream
        items, ancestors = body.items, body.ancestors

        def keep(document: bytes) -> None:
            answered = kept.answered(document, in_event=in_event, items=items, ancestors=ancestors)
            if answered is None:
                log.warning("an engine's answer is no response; it is not kept", request_id=request_id)
            else:
                self._responses.keep(owner, answered)

        return (StreamTap if in_event else WholeTap)(keep, self._responses.limits.one_bytes)

    async def _later(
        self,
        inquiry: Inquiry,
        fields: dict[str, msgspec.Raw],
        body: bytes,
        items: tuple[msgspec.Raw, ...],
        ancestors: tuple[str, ...],
    ) -> Ready:
        queued: KeptResponse = kept.queued(new_response_id(), fields, items, ancestors, self._clock.unix())
        job = Job(id=queued.id, owner=inquiry.caller.key_id, body=msgspec.Raw(body))
        await self._background.add(job, queued)
        return Ready(200, bytes(queued.response))


def _asked(body: bytes) -> Asked:
    return ASKED.decode(body)  # an object: the data plane has looked at it
