"""What all connections of a worker share, and what is done about them as time passes."""

from __future__ import annotations

import asyncio
import math
import resource
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp

from gateway.abuse.caps import check_caps
from gateway.abuse.guard import Guard
from gateway.accounts import Account, Accounts
from gateway.admit import Admission, Claim
from gateway.auth import Doorman
from gateway.clock import Clock
from gateway.endpoints import BodyKind, Endpoint, Paths
from gateway.errors import GatewayError, InvalidRequest, Unauthorized, Unavailable
from gateway.exchange import Exchange
from gateway.forms import peek_form
from gateway.greed import Caps
from gateway.gunzip import gunzip
from gateway.inquiry import Caller, Inquiry
from gateway.leaving import Leaving
from gateway.peek import check_content_type, peek, peek_beside
from gateway.plane.flight import Flight
from gateway.plane.heads import RequestHead
from gateway.plane.outlet import Extension
from gateway.plane.seated import Seated
from gateway.plane.upstream import TICK_S as SWEEP_S
from gateway.plane.upstream import Upstreams
from gateway.settings import Limits
from gateway.tracing import Tracer

if TYPE_CHECKING:
    from gateway.health import Health
    from gateway.limits.limiter import Limiter
    from gateway.metering.recorder import Recorder
    from gateway.plane.connection import Connection
    from gateway.plane.tunnel import Tunnel

TICK_S = 0.1
BILL_S = 1.0  # what runs on is held against budgets as often
SILENT_S = 2.0  # an engine that has sent nothing for so long is asked whether it is there
LONGEST_HOLD_S = 3600.0
SPARE_FILES = 256  # descriptors kept for engines' sockets, logs and files when callers take the rest
LOWEST_PRIORITY = -100
OPEN_PATHS = ("/health", "/readyz", "/version", "/metrics")  # which need no key
UPLOADS = ("/v1/files", "/v1/uploads")
RETRY_AFTER_FULL_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Plane:
    """``control``: answers what is no inference. ``observer``: told of each request when it is over, with its seconds.

    ``limiter``: None where nobody is limited. ``extensions``: by the endpoint's name. ``lifespan``: entered before the
    first request, left after the last.
    """

    paths: Paths
    authenticator: Doorman
    guard: Guard
    admission: Admission
    upstreams: Upstreams
    control: ASGIApp
    observer: Callable[[Exchange, float], None]
    tracer: Tracer
    limits: Limits = field(default_factory=Limits)
    caps: Caps = field(default_factory=Caps)
    clock: Clock = field(default_factory=Clock)
    leaving: Leaving = field(default_factory=Leaving)
    accounts: Accounts = field(default_factory=Accounts)
    limiter: Limiter | None = None
    recorder: Recorder | None = None
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    health: Health | None = None
    connections: set[Connection] = field(default_factory=set)
    flying: set[Flight] = field(default_factory=set)  # at an engine
    tunnels: set[Tunnel] = field(default_factory=set)  # likewise
    held: set[Seated] = field(default_factory=set)
    now: Callable[[], float] = field(init=False)
    lately_s: float = field(init=False)  # the time of the last tick, for what need not be known exactly
    date_line: bytes = field(init=False)
    most_connections: int = field(init=False)
    _hosts: frozenset[str] = field(init=False)
    _sweep_at_s: float = 0.0
    _comments_at_s: float = 0.0
    _bill_at_s: float = 0.0

    def __post_init__(self) -> None:
        self.now = self.clock.monotonic
        self.lately_s = self.now()
        self._hosts = frozenset(self.limits.media_hosts)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max(SPARE_FILES, files - SPARE_FILES) if files != resource.RLIM_INFINITY else 1 << 30
        self.most_connections = min(self.limits.max_connections or room, room)
        self._write_date()

    # -- for connections ---------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        return len(self.connections) > self.most_connections

    def full(self) -> GatewayError:
        return Unavailable(
            f"This worker has its {self.most_connections} connections; try again.", retry_after_s=RETRY_AFTER_FULL_S
        )

    def takes_uploads(self, head: RequestHead) -> bool:
        return head.method == "POST" and head.path.startswith(UPLOADS)

    def check_control(self, head: RequestHead) -> None:
        """Who tries one key after the other is not heard here either. Raises CoolingDown."""
        if not self.guard.cools_addresses or head.path in OPEN_PATHS:
            return
        try:
            if self.authenticator.has_seen(self.authenticator.hash_of(head.headers)):
                return
        except Unauthorized:
            pass
        self.guard.check_stranger(head.address)

    def check_head(self, head: RequestHead, endpoint: Endpoint) -> None:
        """What can be said of a request before its body is there. Raises GatewayError."""
        check_content_type(head.first(b"content-type"), head.encoding, endpoint.body)

    def inquiry(self, head: RequestHead, account: Account, body: bytes, exchange: Exchange) -> Inquiry:
        """A whole request, looked at. Raises GatewayError."""
        endpoint = head.endpoint
        if head.encoding is not None:
            body = gunzip(body, head.encoding, self.limits.max_body_bytes)
        if head.path_model is not None:
            found = peek_beside(body, head.path_model, self.caps)
        elif endpoint.body is BodyKind.FORM:
            found = peek_form(body, endpoint, head.first(b"content-type"))
        else:
            found = peek(body, endpoint, self.caps, self._hosts)
        exchange.traceparent = self.tracer.traceparent(head.traceparent)
        account.check_endpoint(endpoint)
        if account.capped:
            body = check_caps(account.tenant.caps, endpoint, found, body)
        caller = account.caller
        timeout_s = self.limits.hold_timeout_s if head.timeout is None else hold_timeout(head.timeout)
        session = 0 if head.session is None else zlib.crc32(head.session) | 1 << 32
        ranked = caller.priority if head.priority is None else priority(head.priority, caller)
        deadline_s = exchange.started_s + timeout_s
        # By place: by name it takes three times as long.
        return Inquiry(
            endpoint, account, caller, head.headers, body, found, deadline_s, session, ranked, head.path_model
        )

    def open_tunnel(self, connection: Connection, head: RequestHead, exchange: Exchange) -> None:
        """A WebSocket. Raises GatewayError."""
        from gateway.plane.tunnel import Tunnel

        Tunnel(self, connection, head, exchange).begin()

    def observe(self, exchange: Exchange) -> None:
        if exchange.status >= 400:
            self.guard.observe(exchange)
        self.observer(exchange, self.now() - exchange.started_s)

    # -- as time passes ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled. A tick that fails is logged, and the next one comes."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.tick()
            except Exception:
                log.exception("a tick of the data plane failed")

    def tick(self) -> None:
        now_s = self.lately_s = self.now()
        self._write_date()
        self.guard.tick()
        self.admission.tick()
        if self.recorder is not None:
            self.recorder.tick(self.flying)
        if self.limits.hold_comments_s and now_s >= self._comments_at_s:
            self._comments_at_s = now_s + self.limits.hold_comments_s
            for held in tuple(self.held):
                held.comment()
        if now_s >= self._bill_at_s:
            self._bill_at_s = now_s + BILL_S
            self._look_at_running(now_s)
        if now_s < self._sweep_at_s:
            return
        self._sweep_at_s = now_s + SWEEP_S
        for connection in [each for each in self.connections if each.deadline_s <= now_s]:
            connection.expire(now_s)
        self._ask_the_silent(now_s)
        self.upstreams.tick()

    def _look_at_running(self, now_s: float) -> None:
        if self.limiter is not None:
            running: list[Flight | Tunnel] = [*self.flying, *self.tunnels]
            for each in running:
                each.bill(now_s)
        for tunnel in tuple(self.tunnels):
            tunnel.look_again()

    def _ask_the_silent(self, now_s: float) -> None:
        if self.health is None:
            return
        silent: dict[str, Claim] = {}
        for flight in self.flying:
            last_s, claim = flight.last_byte_s, flight.claim
            if last_s is not None and now_s - last_s >= SILENT_S and flight.waits_for_engine and claim is not None:
                silent.setdefault(claim.replica, claim)
        for claim in silent.values():
            self.health.silent(claim)

    def ejected(self, replica: str) -> None:
        """It answers nobody: what waits there for its first byte goes elsewhere."""
        for flight in tuple(self.flying):
            if flight.claim is not None and flight.claim.replica == replica:
                flight.stalled()

    def _write_date(self) -> None:
        self.date_line = b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()

    # -- the end -----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        self.leaving.now = True
        for connection in tuple(self.connections):
            connection.drain()

    def kill(self) -> None:
        for connection in tuple(self.connections):
            connection.kill()


def hold_timeout(header: str) -> float:
    """Seconds that the request may be held. Raises InvalidRequest when the header is not a number of seconds."""
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not (0 <= seconds < math.inf):
        raise InvalidRequest(
            "The header x-request-timeout must be a number of seconds, such as 30.", param="x-request-timeout"
        )
    return min(seconds, LONGEST_HOLD_S)


def priority(header: str, caller: Caller) -> int:
    """As asked for, but no higher than the caller may. Raises InvalidRequest when the header is not a whole number."""
    try:
        wanted = int(header)
    except ValueError:
        wanted = LOWEST_PRIORITY - 1
    if wanted < LOWEST_PRIORITY or wanted > -LOWEST_PRIORITY:
        raise InvalidRequest(
            f"The header x-request-priority must be a whole number from {LOWEST_PRIORITY} to {-LOWEST_PRIORITY}; "
            "higher goes first.",
            param="x-request-priority",
        )
    return min(wanted, caller.priority)
