"""Where an answer goes, and what may be done around a request: the seams of the data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.inquiry import Inquiry


class Outlet(Protocol):
    """A caller that waits for one answer: a connection, or somebody in this process.

    Exactly one of ``whole``, ``begin`` .. ``end`` and ``begin`` .. ``abort`` happens, in that order. When the caller
    leaves, the outlet calls ``Flight.cancel``; when it reads too slowly, ``Flight.pause`` and ``Flight.resume``.
    """

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        """All at once. ``head``: ready header lines, each ended by CRLF, without framing and request id."""

    def begin(self, status: int, head: bytes, length: int | None) -> None:
        """The body follows; ``length`` None: as long as it takes."""

    def write(self, data: bytes) -> None: ...

    def write_chunks(self, data: bytes, payload_bytes: int) -> None:
        """Whole chunks in HTTP's chunked framing as an engine sent them; only after ``begin`` without a length."""

    def end(self) -> None: ...

    def abort(self) -> None:
        """Cut it off: the caller must not take what it has for the whole."""


class Tap(Protocol):
    """Sees the body of a successful answer on its way out, without framing."""

    def feed(self, data: bytes) -> None: ...

    def done(self) -> None:
        """The answer is complete. Called before the caller has its last byte."""

    def broken(self) -> None:
        """It will never be: the engine was lost, or the caller left."""


class Extension(Protocol):
    """Something done around the requests of an endpoint (``Plane.extensions``, by the endpoint's name)."""

    def wants(self, inquiry: Inquiry) -> bool:
        """Whether this request is for it. Cheap: asked for every one."""

    async def prepare(self, inquiry: Inquiry, request_id: str) -> Ready | None:
        """Before a place is looked for; may change ``inquiry.body``. An answer ends the request there and then.

        Raises GatewayError.
        """

    def tap(self, inquiry: Inquiry, request_id: str) -> Tap | None: ...


class Ready:
    """An answer that needs no engine."""

    __slots__ = ("body", "head", "status")

    def __init__(self, status: int, body: bytes, head: bytes = b"content-type: application/json\r\n") -> None:
        self.status = status
        self.head = head
        self.body = body
