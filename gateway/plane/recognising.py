"""Whose request it is: the address that it comes from, and the key that it shows; asked of the store if need be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gateway.abuse.caps import most_body_bytes
from gateway.abuse.guard import Peer
from gateway.accounts import Account
from gateway.auth import INFERENCE
from gateway.endpoints import Endpoint
from gateway.errors import BodyTooLarge, GatewayError, Unauthorized, Unexpected
from gateway.exchange import Exchange
from gateway.plane.heads import RequestHead
from gateway.plane.intake import State
from gateway.plane.refusing import Refusing

if TYPE_CHECKING:
    from models.store.records import KeyRecord

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger(__name__)


class Recognising(Refusing):
    """``_complete`` is called when the store has said who it is, if the request is whole by then."""

    __slots__ = ("_account", "_cleared", "_most_bytes", "_peer", "_size", "_task")

    _account: Account | None  # once it is known
    _cleared: int  # in which generation of the guard all that comes from there was let through
    _most_bytes: int  # of this request's body
    _peer: Peer | None  # once it is known
    _size: int  # of what of the body is here
    _task: asyncio.Task[None] | None  # that asks the store

    def _complete(self) -> None:
        raise NotImplementedError

    def _clear(self, head: RequestHead) -> None:
        """Whose request it is, and whether they are heard. Raises AddressBlocked."""
        guard = self._plane.guard
        if self._peer is None:
            assert self.transport is not None
            self._peer = Peer.of(self.transport.get_extra_info("peername"))
        if self._cleared == guard.generation:
            head.address, head.cleared = self._peer.text, self._cleared
        elif guard.clear(self._peer, head):
            self._cleared = guard.generation

    def _recognise(self, head: RequestHead, endpoint: Endpoint, exchange: Exchange) -> None:
        """``_account`` is there then, or the store is asked. Raises Unauthorized, Forbidden, CoolingDown."""
        plane = self._plane
        try:
            if head.key_hash is None:
                head.key_hash = plane.authenticator.hash_of(head.headers)
            record = plane.authenticator.recall(head.key_hash, INFERENCE)
        except Unauthorized:
            plane.guard.check_stranger(head.address)
            raise
        self._most_bytes = min(endpoint.most_body_bytes or plane.limits.max_body_bytes, plane.limits.max_body_bytes)
        if record is None:
            if not plane.authenticator.has_seen(head.key_hash):
                plane.guard.check_stranger(head.address)
            self._task = asyncio.get_running_loop().create_task(self._authenticate(head.key_hash))
        else:
            self._recognised(record, exchange)  # and auth_s stays 0: nothing had to be waited for

    async def _authenticate(self, key_hash: str) -> None:
        """The store has to be asked; the body goes on coming in meanwhile."""
        exchange, head = self.exchange, self._head
        assert exchange is not None
        assert head is not None
        try:
            record = await self._plane.authenticator.authenticate_hash(key_hash, INFERENCE)
            self._recognised(record, exchange)
            self._check_length(head)
        except GatewayError as error:
            self._task = None
            self._refuse(error)
            return
        except asyncio.CancelledError:
            raise
        except Exception:
            self._task = None
            log.exception("unexpected error", request_id=exchange.request_id)
            self._refuse(Unexpected(exchange.request_id))
            return
        self._task = None
        exchange.auth_s = self._plane.now() - exchange.started_s
        if self._state is State.ANSWER:
            self._complete()
        elif self._state is State.BODY and head.expects_continue and not self._size:
            self._write(CONTINUE)

    def _recognised(self, record: KeyRecord, exchange: Exchange) -> None:
        """Raises Forbidden, CoolingDown."""
        plane = self._plane
        exchange.key_id, exchange.tenant, exchange.project = record.key_id, record.tenant, record.project
        if plane.guard.watches_keys:
            plane.guard.check_key(record.key_id)
        self._account = account = plane.accounts.of(record)
        account.asked += 1
        if account.capped:
            self._most_bytes = most_body_bytes(account.tenant, self._most_bytes)

    def _check_length(self, head: RequestHead) -> None:
        if (head.length or self._size) > self._most_bytes:
            raise BodyTooLarge(self._most_bytes)
