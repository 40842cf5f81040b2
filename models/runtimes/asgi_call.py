"""Calls an ASGI application without a server: how a runtime warms its own endpoints."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from models.runtimes.protocol import Asgi


async def call_app(app: Asgi, path: str, body: dict[str, Any]) -> int:
    """POST to an ASGI application without a server; the status. The answer is thrown away."""
    return (await ask_app(app, path, body))[0]


async def ask_app(app: Asgi, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    """POST to an ASGI application without a server; status and body of the answer."""
    sent = json.dumps(body).encode()
    incoming = [{"type": "http.request", "body": sent, "more_body": False}]
    status = 0
    answer = bytearray()

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await asyncio.Event().wait()  # the client stays connected
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        answer.extend(message.get("body", b""))

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(sent)).encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    return status, bytes(answer)
