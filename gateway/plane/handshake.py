"""How a WebSocket is opened (RFC 6455 section 4): what a caller asks, what an engine is asked, what it says.

The handshake itself, key and answer, is between the two: it is passed on, not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import parse_qsl, quote, urlencode

import httptools

from gateway.endpoints import Endpoint
from gateway.errors import InvalidRequest, MethodNotAllowed, Unauthorized
from gateway.headers import Headers, lines, to_engine
from gateway.peek import LONGEST_MODEL_NAME
from gateway.plane.heads import AnswerHead, BadHead, RequestHead

PROTOCOLS = b"sec-websocket-protocol"
# Browsers can set no other header, so OpenAI's clients put the key among the names of subprotocols.
KEY_PROTOCOL = b"openai-insecure-api-key."
REALTIME = b"realtime"
_TO_ENGINE = frozenset({b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions"})
_FROM_ENGINE = frozenset({b"sec-websocket-accept", b"sec-websocket-extensions"})
SWITCHING = 101


class UpgradeRequired(InvalidRequest):
    status = 426
    code = "upgrade_required"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path[:200]} is a WebSocket: ask for 'connection: upgrade' and 'upgrade: websocket'.")

    def headers(self) -> list[tuple[str, str]]:
        return [("upgrade", "websocket"), ("connection", "Upgrade")]


def check_upgrade(head: RequestHead, endpoint: Endpoint) -> None:
    """Raises MethodNotAllowed, UpgradeRequired and InvalidRequest."""
    if head.method != endpoint.method:
        raise MethodNotAllowed(head.method, head.path, (endpoint.method, "OPTIONS"))
    if head.upgrade != b"websocket" or head.http_1_0:
        raise UpgradeRequired(head.path)
    if head.chunked or head.length:
        raise InvalidRequest("A request that opens a WebSocket has no body.")


def key_hash_of(headers: Headers, hash_of: Callable[[Headers], str]) -> str:
    """Of the key in a header, else of the one among the subprotocols. Raises Unauthorized."""
    try:
        return hash_of(headers)
    except Unauthorized:
        for protocol in protocols_of(headers):
            if protocol.startswith(KEY_PROTOCOL):
                return hash_of([(b"authorization", b"Bearer " + protocol.removeprefix(KEY_PROTOCOL))])
        raise


def protocols_of(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The subprotocols that are named, in their order."""
    named = [part.strip() for name, value in headers if name == PROTOCOLS for part in value.split(b",")]
    return [protocol for protocol in named if protocol]


def model_of(head: RequestHead, endpoint: Endpoint) -> str:
    """As the query names it. Raises InvalidRequest."""
    field = endpoint.model_field
    try:
        found = [value for name, value in _query(head) if name == field]
    except ValueError:
        raise InvalidRequest("The query of the address cannot be read.", code="invalid_query") from None
    if len(found) != 1 or not found[0].strip() or len(found[0]) > LONGEST_MODEL_NAME:
        message = f"Name one of the models of GET /v1/models in the address: {head.path}?{field}=..."
        raise InvalidRequest(message, param=field)
    return found[0]


def request_to(head: RequestHead, path: bytes, authority: bytes, more: bytes, endpoint: Endpoint, name: str) -> bytes:
    """The same request for an engine, where the model is called ``name``. The caller's key stays here."""
    query = [(field, name if field == endpoint.model_field else value) for field, value in _query(head)]
    offered = [protocol for protocol in protocols_of(head.headers) if not protocol.startswith(KEY_PROTOCOL)]
    kept = [(field, value) for field, value in head.headers if field in _TO_ENGINE]
    if offered:
        kept.append((PROTOCOLS, b", ".join(offered)))
    passed = lines([*to_engine(head.headers), *kept])
    target = b"%b?%b" % (path, urlencode(query, quote_via=quote).encode())
    return b"GET %b HTTP/1.1\r\nhost: %b\r\nconnection: Upgrade\r\nupgrade: websocket\r\n%b%b\r\n" % (
        target, authority, more, passed,
    )  # fmt: skip


def parse_opening(raw: bytes) -> AnswerHead:
    """An engine's head, which ends with the blank line. Raises BadHead."""
    head = AnswerHead()
    collector = _Collector(head.headers)
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as wrong:
        raise BadHead("its answer to an upgrade is not HTTP") from wrong
    head.status = parser.get_status_code()
    return head


def opened(answer: AnswerHead, offered: list[bytes]) -> bytes:
    """The header lines that tell the caller that the WebSocket is open. Raises BadHead for what is no WebSocket."""
    told = {name: value for name, value in answer.headers if name in (b"upgrade", b"sec-websocket-accept")}
    if told.get(b"upgrade", b"").strip().lower() != b"websocket" or b"sec-websocket-accept" not in told:
        raise BadHead("it switched to something that is no WebSocket")
    chosen = protocols_of(answer.headers)
    if not chosen and REALTIME in offered:
        # A browser that has offered protocols hangs up when none is chosen, and some engines choose none.
        chosen = [REALTIME]
    kept = [(name, value) for name, value in answer.headers if name in _FROM_ENGINE]
    kept += [(PROTOCOLS, protocol) for protocol in chosen[:1] if protocol in offered]
    return b"connection: Upgrade\r\nupgrade: websocket\r\n" + lines(kept)


def _query(head: RequestHead) -> list[tuple[str, str]]:
    """Raises ValueError."""
    return parse_qsl(head.query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)


class _Collector:
    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
