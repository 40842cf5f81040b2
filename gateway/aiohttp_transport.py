"""The transport on aiohttp: one pooled session per endpoint, over a unix socket or TCP."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import aiohttp

from gateway.headers import Headers
from gateway.transport import UpstreamLost, UpstreamResponse

CONNECT_TIMEOUT_S = 5.0
# vLLM's server closes an idle connection after 5 s; letting go earlier avoids sending into one that is just closing.
KEEP_IDLE_S = 3.0
UNIX = "unix:"
# What aiohttp would add by itself.
_SKIP = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_IN_ONE_PIECE_BYTES = 1 << 20  # aiohttp writes a longer ``bytes`` body without yielding to others


@dataclass(slots=True)
class _Pool:
    """The connections to one endpoint; ``open`` exchanges use it now. A retired one closes with its last exchange."""

    session: aiohttp.ClientSession
    open: int = 0
    retired: bool = False

    async def done(self) -> None:
        self.open -= 1
        if self.retired and not self.open:
            await self.session.close()


class AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, pool: _Pool) -> None:
        self._response = response
        self._pool: _Pool | None = pool
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.raw_headers]

    async def chunks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as broken:
            raise UpstreamLost(_why(broken), connected=True) from broken

    async def close(self) -> None:
        # The connection went back to the pool when the body was read to its end, otherwise this closes it.
        self._response.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.done()


class AiohttpTransport:
    """``connect_timeout_s`` bounds the connection only: an answer may take as long as the model needs."""

    def __init__(self, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._pools: dict[str, _Pool] = {}

    async def open(self, endpoint: str, method: str, path: str, headers: Headers, body: bytes) -> UpstreamResponse:
        pool = self._pool(endpoint)
        base = "http://engine" if endpoint.startswith(UNIX) else endpoint.rstrip("/")
        pool.open += 1
        try:
            response = await pool.session.request(
                method,
                base + path,
                data=body if len(body) <= _IN_ONE_PIECE_BYTES else io.BytesIO(body),
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
                allow_redirects=False,
                skip_auto_headers=_SKIP,
            )
        except BaseException as error:
            await pool.done()
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                raise UpstreamLost(_why(error), connected=False) from error
            if isinstance(error, aiohttp.ClientError | OSError):
                raise UpstreamLost(_why(error), connected=True) from error
            raise
        return AiohttpResponse(response, pool)

    async def retain(self, endpoints: Collection[str]) -> None:
        for gone in [known for known in self._pools if known not in endpoints]:
            pool = self._pools.pop(gone)
            pool.retired = True
            if not pool.open:
                await pool.session.close()

    async def close(self) -> None:
        while self._pools:
            _, pool = self._pools.popitem()
            await pool.session.close()

    def _pool(self, endpoint: str) -> _Pool:
        if endpoint not in self._pools:
            connector: aiohttp.BaseConnector
            if endpoint.startswith(UNIX):
                connector = aiohttp.UnixConnector(endpoint.removeprefix(UNIX), limit=0, keepalive_timeout=KEEP_IDLE_S)
            else:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_IDLE_S)
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
                trust_env=False,
            )
            self._pools[endpoint] = _Pool(session)
        return self._pools[endpoint]


def _why(error: BaseException) -> str:
    """For logs: the kind is enough, the text may hold paths."""
    return type(error).__name__
