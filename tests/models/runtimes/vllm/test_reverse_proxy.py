"""What the proxy passes on, against a real server on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from models.runtimes.host.http_server import HttpServer
from models.runtimes.sockets import bind_private
from models.runtimes.vllm.reverse_proxy import ReverseProxy
from tests.models.runtimes.launchers import short_folder

pytestmark = pytest.mark.anyio


class Upstream:
    """Notes what reaches it."""

    def __init__(self):
        self.seen = []
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()

    async def handle(self, request):
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.raw_path, headers, body))
        match request.path:
            case "/stream":
                return await self._stream(request)
            case "/cut":
                response = web.StreamResponse()
                await response.prepare(request)
                await response.write(b"half an ans")
                request.transport.close()
                return response
            case "/redirect":
                return web.Response(status=307, headers={"location": "/elsewhere"})
        return web.json_response({"length": len(body)}, status=418, headers={"x-odd": "Tea", "connection": "close"})

    async def _stream(self, request):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            await response.write(b"data: 1\n\n")
            await self.go_on.wait()
            await response.write(b"data: 2\n\n")
        except asyncio.CancelledError:
            self.left.set()
            raise
        return response


@contextlib.asynccontextmanager
async def proxied(allowed=lambda _path: True):
    """The upstream, and a session through the proxy."""
    upstream = Upstream()
    with short_folder() as folder:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", upstream.handle)
        runner = web.AppRunner(application, handler_cancellation=True)
        await runner.setup()
        await web.UnixSite(runner, str(folder / "up.sock")).start()
        proxy = ReverseProxy(lambda: session_on(folder / "up.sock"), allowed)
        server = HttpServer(bind_private(str(folder / "p.sock")))
        await server.start(proxy)
        async with session_on(folder / "p.sock") as session:
            yield upstream, session
        server.close()
        await proxy.close()
        await runner.cleanup()


def session_on(path):
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(path)))


async def test_request_and_answer_arrive_as_they_are():
    async with proxied() as (upstream, session):
        headers = {"x-request-id": "7", "content-type": "application/x-odd", "te": "trailers"}
        url = URL("http://e/a%20b?q=1&q=%2F", encoded=True)
        async with session.post(url, data=b"\x00\xff", headers=headers) as response:
            assert response.status == 418
            assert response.headers["x-odd"] == "Tea"
            assert await response.json() == {"length": 2}
        ((method, path, seen, body),) = upstream.seen
        assert (method, path, body) == ("POST", "/a%20b?q=1&q=%2F", b"\x00\xff")
        assert seen["x-request-id"] == "7"
        assert seen["content-type"] == "application/x-odd"
        assert "te" not in seen


async def test_no_header_is_added():
    async with proxied() as (upstream, session):
        without = ("User-Agent", "Accept", "Accept-Encoding")
        async with session.get("http://e/health", skip_auto_headers=without):
            pass
        assert upstream.seen[0][2].keys() <= {"host", "connection"}


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_long_body_is_passed_on(chunked):
    async def parts():
        for _ in range(64):
            yield bytes(1 << 16)

    async with proxied() as (upstream, session):
        data = parts() if chunked else bytes(1 << 22)
        async with session.post("http://e/upload", data=data) as response:
            assert await response.json() == {"length": 1 << 22}
        assert upstream.seen[0][3] == bytes(1 << 22)


async def test_a_stream_arrives_piece_by_piece():
    async with proxied() as (upstream, session), session.post("http://e/stream", json={}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert await response.content.readany() == b"data: 1\n\n"
        upstream.go_on.set()
        assert await response.content.read() == b"data: 2\n\n"


async def test_a_client_that_leaves_is_noticed_upstream():
    async with proxied() as (upstream, session):
        response = await session.post("http://e/stream", json={})
        await response.content.readany()
        response.close()
        await asyncio.wait_for(upstream.left.wait(), 10)


async def test_an_answer_that_is_cut_upstream_is_seen_to_be_cut():
    async with proxied() as (_, session), session.get("http://e/cut") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_head_and_redirects_are_the_clients_business():
    async with proxied() as (upstream, session):
        async with session.head("http://e/health") as response:
            assert (response.status, await response.read()) == (418, b"")
        async with session.get("http://e/redirect", allow_redirects=False) as response:
            assert (response.status, response.headers["location"]) == (307, "/elsewhere")
        assert [seen[0] for seen in upstream.seen] == ["HEAD", "GET"]


async def test_what_is_not_allowed_is_not_there():
    async with proxied(lambda path: path.startswith("/v1/")) as (upstream, session):
        async with session.post("http://e/collective_rpc", json={}) as response:
            assert response.status == 404
            assert json.loads(await response.text())["error"]["code"] == "not_found"
        async with session.post("http://e/v1/completions", json={}) as response:
            assert response.status == 418
        assert len(upstream.seen) == 1


async def test_a_server_that_is_gone_is_an_error_object():
    with short_folder() as folder:
        server = HttpServer(bind_private(str(folder / "p.sock")))
        await server.start(ReverseProxy(lambda: session_on(folder / "none.sock"), lambda _path: True))
        async with session_on(folder / "p.sock") as session, session.post("http://e/v1/completions") as response:
            assert response.status == 503
            assert (await response.json())["error"]["code"] == "engine_unavailable"
        server.close()
