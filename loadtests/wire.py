"""HTTP to the service with the standard library alone, so that the same code runs under gevent and without it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Generator, Iterator
from typing import Any

from loadtests.target import Target

LONGEST_MESSAGE = 300
PIECE_BYTES = 64 * 1024


class CallFailed(Exception):
    """A request that got no good answer; the text is what the server said, or what became of the connection."""


class NotReachable(CallFailed):
    """Nothing listens there, or it hung up without an answer."""


class Refused(CallFailed):
    """An HTTP status of 400 and above, with the server's own words."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(f"{status}{f' {code}' if code else ''}: {message}")
        self.status = status
        self.message = message
        self.code = code


def get_json(target: Target, path: str, *, admin: bool = False, timeout_s: float = 30.0) -> Any:
    """Raises CallFailed."""
    with _answer(target, "GET", path, None, admin, timeout_s) as answer:
        return _json(answer.read())


def post_json(target: Target, path: str, body: Any, *, admin: bool = False, timeout_s: float = 30.0) -> Any:
    """Raises CallFailed."""
    with _answer(target, "POST", path, body, admin, timeout_s) as answer:
        return _json(answer.read())


def delete(target: Target, path: str, *, timeout_s: float = 30.0) -> None:
    """Of the admin API. Raises CallFailed."""
    with _answer(target, "DELETE", path, None, True, timeout_s) as answer:
        answer.read()


def post_stream(target: Target, path: str, body: Any, *, timeout_s: float) -> Generator[bytes, None, None]:
    """The pieces of the answer's body as they arrive. ``timeout_s`` bounds the wait for each. Raises CallFailed."""
    with _answer(target, "POST", path, body, False, timeout_s) as answer:
        while piece := answer.read1(PIECE_BYTES):
            yield piece


@contextlib.contextmanager
def _answer(
    target: Target, method: str, path: str, body: Any, admin: bool, timeout_s: float
) -> Iterator[http.client.HTTPResponse]:
    """One request on a connection of its own: each stands alone, none inherits what befell the one before."""
    link = connection(target, timeout_s)
    try:
        link.request(method, path, None if body is None else json.dumps(body).encode(), headers(target, admin))
        answer = link.getresponse()
        if answer.status >= 400:
            raise refusal(answer.status, answer.read(PIECE_BYTES))
        yield answer
    except TimeoutError:
        raise CallFailed(f"no answer within {timeout_s:g} s") from None
    except http.client.IncompleteRead:
        raise CallFailed("the connection was closed in the middle of the answer") from None
    except (ConnectionError, ssl.SSLError, OSError) as problem:
        raise NotReachable(f"{type(problem).__name__}: {problem}") from None
    except http.client.HTTPException as problem:
        raise CallFailed(f"{type(problem).__name__}: {problem}") from None
    finally:
        link.close()


def connection(target: Target, timeout_s: float) -> http.client.HTTPConnection:
    """Not connected yet: the first request does that."""
    if target.socket_path:
        return UnixConnection(target.socket_path, timeout_s)
    kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
    return kind(target.host, target.port, timeout=timeout_s)


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def headers(target: Target, admin: bool) -> dict[str, str]:
    key = target.admin_key if admin else target.api_key
    found = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if key:
        found["authorization"] = f"Bearer {key}"
    return found


def refusal(status: int, body: bytes) -> Refused:
    """The server's own words out of an OpenAI error object, else the beginning of what it sent."""
    try:
        error = json.loads(body)["error"]
        return Refused(status, shorten(str(error["message"])), error.get("code"))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body.decode("utf-8", "replace")
        return Refused(status, shorten(text) or http.client.responses.get(status, "no reason given"))


def shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise CallFailed(f"the answer is not JSON: {shorten(body[:200].decode('utf-8', 'replace'))}") from None
