"""The server behind an engine's socket."""

from __future__ import annotations

import pytest

from models.runtimes.host.gate import Gate
from models.runtimes.host.http_server import HttpServer
from models.runtimes.protocol import EngineError
from models.runtimes.sockets import bind_private
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import short_folder

pytestmark = pytest.mark.anyio


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def test_a_bound_socket_is_served():
    with short_folder() as folder:
        path = str(folder / "h")
        server = HttpServer(bind_private(path))
        await server.start(Gate(answer))
        assert await call(path, "/anything") == (200, {})
        server.close()


async def test_an_application_that_does_not_start_is_named():
    async def broken(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with short_folder() as folder:
        server = HttpServer(bind_private(str(folder / "h")))
        with pytest.raises(EngineError, match="did not start"):
            await server.start(broken)
        server.close()
