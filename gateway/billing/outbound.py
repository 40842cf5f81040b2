"""POSTs to where operators want to be told: not to private addresses unless they say so, and never for long."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from gateway.abuse.networks import is_public, parse_address
from models.store.webhook_checks import UrlNotValid, check_url

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

CONNECT_S, ANSWER_S = 5.0, 15.0
GONE = 410
AGENT = "roundhouse-webhooks"


class Attempt(NamedTuple):
    """What came of a try. ``gone``: the receiver wants no more of it. ``retry_after_s``: when it does."""

    ok: bool
    reason: str = ""
    gone: bool = False
    retry_after_s: float | None = None


class PrivateAddress(OSError):
    """A webhook's host is on this machine or in a private network."""


class Poster:
    """One per process, closed at its end. ``resolver``: who knows hosts' addresses; the system does."""

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def post(self, url: str, body: bytes, headers: dict[str, str], *, allow_private: bool) -> Attempt:
        """Redirects are not followed; what the receiver says beside its status is not read."""
        import aiohttp

        try:
            check_url(url)
            self._check_host(url, allow_private=allow_private)
            session = self._session(allow_private)
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return _attempt(answer.status, answer.headers.get("retry-after"))
        except (PrivateAddress, UrlNotValid) as refused:
            return Attempt(False, str(refused))
        except aiohttp.ClientConnectorError as failed:
            cause = failed.os_error
            return Attempt(False, str(cause) if isinstance(cause, PrivateAddress) else f"no connection: {cause}")
        except TimeoutError:
            return Attempt(False, f"no answer within {ANSWER_S:g} s")
        except (aiohttp.ClientError, OSError) as failed:
            return Attempt(False, f"{type(failed).__name__}: {failed}")

    async def close(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()

    def _check_host(self, url: str, *, allow_private: bool) -> None:
        """Of an address in place of a name, for which no resolver is asked."""
        address = parse_address(urlsplit(url).hostname or "")
        if address is not None and not allow_private and not is_public(address):
            raise _private(str(address))

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        """Connections to private addresses are of a session of their own: nobody else is to find them open."""
        import aiohttp

        found = self._sessions.get(allow_private)
        if found is None:
            resolver = self._resolver or aiohttp.ThreadedResolver()
            connector = aiohttp.TCPConnector(
                resolver=resolver if allow_private else _public_only(resolver), use_dns_cache=False, limit_per_host=4
            )
            found = self._sessions[allow_private] = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S),
                headers={"user-agent": AGENT, "content-type": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return found


def _public_only(resolver: AbstractResolver) -> AbstractResolver:
    """What is checked is what is connected to: between the two nobody asks again."""
    from aiohttp.abc import AbstractResolver

    class PublicOnly(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await resolver.resolve(host, port, family)
            for each in found:
                address = parse_address(each["host"])
                if address is None or not is_public(address):
                    raise _private(host)
            return found

        async def close(self) -> None:
            await resolver.close()

    return PublicOnly()


def _private(host: str) -> PrivateAddress:
    return PrivateAddress(
        f"{host} is not on the internet; set allow_private of this webhook if it is meant to be told there"
    )


def _attempt(status: int, retry_after: str | None) -> Attempt:
    if 200 <= status < 300:
        return Attempt(True)
    asked_s = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    return Attempt(False, f"status {status}", gone=status == GONE, retry_after_s=asked_s)
