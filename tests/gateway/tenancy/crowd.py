"""Many callers at once, and what can be said for certain of when each of their requests was admitted."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from typing import Any, NamedTuple

import aiohttp

from tests.gateway.tenancy.city import City, bearer, chat


class Admitted(NamedTuple):
    sent_s: float
    told_s: float
    tokens: int


async def ask(client: aiohttp.ClientSession, key: str, **fields: Any) -> aiohttp.ClientResponse:
    answer = await client.post("/v1/chat/completions", json=chat(**fields), headers=bearer(key))
    await answer.read()
    return answer


class Crowd:
    """Callers who ask again at once, each on a connection of its own for each request."""

    def __init__(self, city: City, key: str, tokens: int = 3) -> None:
        self.city, self.key, self.tokens = city, key, tokens
        self.admitted: list[Admitted] = []
        self.refused = 0

    async def run(self, callers: int, for_s: float) -> Crowd:
        until_s = time.monotonic() + for_s
        await asyncio.gather(*(self._one(until_s) for _ in range(callers)))
        return self

    async def _one(self, until_s: float) -> None:
        async with self.city.client(fresh=True) as client:
            while time.monotonic() < until_s:
                sent_s = time.monotonic()
                answer = await ask(client, self.key, tokens=self.tokens)
                if answer.status == 200:
                    self.admitted.append(
                        Admitted(sent_s, time.monotonic(), (await answer.json())["usage"]["total_tokens"])
                    )
                else:
                    assert answer.status == 429, await answer.text()
                    self.refused += 1
                    await asyncio.sleep(0.01)

    def most_in_any(self, window_s: float) -> int:
        """Those that must have been admitted within one window, as they were sent and answered in it."""
        ordered = sorted(self.admitted)
        sent = [one.sent_s for one in ordered]
        most = 0
        for number, first in enumerate(ordered):
            last = bisect_left(sent, first.sent_s + window_s)
            most = max(most, sum(one.told_s <= first.sent_s + window_s for one in ordered[number:last]))
        return most
