"""HTTP over an engine's unix socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp


async def call(http_path: str, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    """Status and parsed JSON (or the text)."""
    connector = aiohttp.UnixConnector(path=http_path)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"http://engine{path}", json=body) as response,
    ):
        text = await response.text()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text


async def stream(http_path: str, path: str, body: Any) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each server-sent event, without the final ``[DONE]``."""
    connector = aiohttp.UnixConnector(path=http_path)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"http://engine{path}", json=body) as response,
    ):
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))
