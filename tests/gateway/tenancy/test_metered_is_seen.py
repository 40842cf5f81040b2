"""R8: metered tokens are those that callers saw, each request once and billed once, whatever is killed meanwhile.

A seeded driver plays a mix: streamed or not, several choices, with and without usage told, three dialects, callers who
leave at a random point; engines, workers, the meter and Redis are killed at random moments.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from models.store.usage import Use
from tests.gateway.tenancy.city import City, bearer, chat
from tests.gateway.tenancy.conftest import Founding
from tests.gateway.tenancy.engine_process import PROMPT_TOKENS, WORD

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
CALLERS = 8
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
RUNS = [pytest.param(1, 5.0), *(pytest.param(seed, 30.0, marks=pytest.mark.long) for seed in range(2, 6))]
_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")


@dataclass
class Seen:
    """What one caller saw of one request. ``whole``: to its end. ``cut``: its worker died under it."""

    id: str
    tokens: int
    status: int
    whole: bool
    left: bool
    cut: bool
    told: int | None  # tokens, by the answer's usage
    where: str


@dataclass
class Driver:
    city: City
    key: str
    rng: random.Random
    seen: list[Seen] = field(default_factory=list)
    over: bool = False
    asked: int = 0

    async def live(self) -> None:
        while not self.over:
            self.asked += 1
            await self.ask(f"r{self.asked}", *self.request())
            await asyncio.sleep(self.rng.random() * 0.02)

    def request(self) -> tuple[str, dict[str, Any]]:
        rng = self.rng
        path = rng.choice([CHAT, CHAT, CHAT, MESSAGES, RESPONSES])
        tokens = rng.choice([1, 2, 5, 20, 60])
        how = {"every_s": rng.choice([0.0, 0.0, 0.002, 0.01]), "work_s": rng.choice([0.0, 0.0, 0.05])}
        fields: dict[str, Any] = {"stream": rng.random() < 0.7, "how": how}
        if path == RESPONSES:
            body = {"model": "m", "input": "hi", "max_output_tokens": tokens, "store": False}
        else:
            body = chat("m", tokens)
        if path == CHAT:
            fields["n"] = rng.choice([1, 1, 3])
            if fields["stream"] and rng.random() < 0.5:
                fields["stream_options"] = {"include_usage": True, "continuous_usage_stats": rng.random() < 0.5}
        return path, body | fields

    async def ask(self, name: str, path: str, body: dict[str, Any]) -> None:
        leaves_after = self.rng.randint(0, 40) if self.rng.random() < 0.3 else None
        data = json.dumps(body).encode()
        head = {**bearer(self.key), "host": "x", "content-type": "application/json", "x-request-id": name}
        lines = [f"POST {path} HTTP/1.1", *(f"{key}: {value}" for key, value in head.items())]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.city.port)
        except OSError:
            return
        raw = b""
        left = reset = False
        try:
            writer.write("\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data)
            while part := await asyncio.wait_for(reader.read(65536), 60):
                raw += part
                if _whole(raw):
                    break
                if leaves_after is not None and not left and words(raw) >= leaves_after:
                    left = True
                    writer.write_eof()  # and reads what was on its way
        except (ConnectionError, OSError):
            reset = True
        finally:
            writer.close()
        self.note(name, raw, left, reset, f"{path} {'stream' if body['stream'] else 'whole'}")

    def note(self, name: str, raw: bytes, left: bool, reset: bool, where: str) -> None:
        status = _STATUS.match(raw)
        whole = _whole(raw)
        told = re.findall(rb'"(?:completion_tokens|output_tokens)": ?(\d+)', raw)
        self.seen.append(
            Seen(
                name, words(raw), int(status[1]) if status else 0, whole, left, reset or not (whole or left),
                int(told[-1]) if told and whole else None, where,
            )
        )  # fmt: skip


def words(raw: bytes) -> int:
    """A Responses stream says all of its text once more at its end, and a whole answer is one text."""
    if b"response.completed" in raw:
        return raw.count(b'.delta","')
    return raw.count(WORD.encode())


def _whole(raw: bytes) -> bool:
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        return False
    length = re.search(rb"content-length: (\d+)", head.lower())
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


class Havoc:
    """Kills one thing after the other until it is over; everything is back then."""

    def __init__(self, city: City, rng: random.Random) -> None:
        self.city, self.rng = city, rng
        self.done: Counter[str] = Counter()

    async def rage(self, for_s: float) -> None:
        until_s = time.monotonic() + for_s
        kinds: list[Callable[[], Awaitable[None]]] = [self.engine, self.worker, self.meter, self.redis]
        self.rng.shuffle(kinds)
        while time.monotonic() < until_s:
            for kind in kinds:
                await asyncio.sleep(self.rng.uniform(0.2, 1.0))
                await kind()
                self.done[kind.__name__] += 1
        await self.city.until_known()

    async def engine(self) -> None:
        self.city.kill_engine(self.rng.randrange(self.city.engines))

    async def worker(self) -> None:
        os.kill(self.rng.choice(self.city.worker_pids()), signal.SIGKILL)

    async def meter(self) -> None:
        self.city.kill_meters()
        await asyncio.sleep(self.rng.uniform(0.0, 0.5))
        self.city.start_meter()

    async def redis(self) -> None:
        await asyncio.to_thread(self.city.redis_server.kill)
        await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        await asyncio.to_thread(self.city.redis_server.start)


@pytest.mark.parametrize(("seed", "for_s"), RUNS)
async def test_r8(found: Founding, seed: int, for_s: float) -> None:
    city = await found(workers=2, engines=2)
    key = await city.make_key()
    driver, havoc = Driver(city, key, random.Random(seed)), Havoc(city, random.Random(seed))
    async with city.client() as client:  # it is known when Redis goes away
        for _ in range(20):
            async with client.post(CHAT, json=chat(), headers=bearer(key) | {"connection": "close"}) as answer:
                assert answer.status == 200
    living = [asyncio.create_task(driver.live()) for _ in range(CALLERS)]
    await havoc.rage(for_s)
    driver.over = True
    await asyncio.gather(*living)
    must = {one.id for one in driver.seen if one.status == 200 and (one.whole or one.tokens)}
    ids: set[str] = set()

    async def all_settled() -> bool:
        ids.update(one.id for one in await city.settled())
        return must <= ids

    took_s = await city.until(all_settled)
    await asyncio.sleep(2.0)
    await check(city, driver, havoc, took_s)


async def check(city: City, driver: Driver, havoc: Havoc, took_s: float) -> None:
    events = await city.settled()
    settled = {one.id: one for one in events}
    assert len(settled) == len(events), "each once"
    wrong, of_killed, kinds = [], 0, Counter[str]()
    for one in driver.seen:
        event = settled.get(one.id)
        kinds["cut" if one.cut else "left" if one.left else str(one.status)] += 1
        if event is None:
            assert not one.tokens, f"{one} is not metered"
            continue
        more = event.completion_tokens - one.tokens
        if event.cut:
            of_killed += more
            right = 0 <= more <= 1  # counted, then sent: it was killed in between
        elif one.whole and one.status == 200:
            # A stream whose engine died ends with an error event: what came is known, and was not told in full.
            as_told = event.prompt_tokens == PROMPT_TOKENS and one.told in (None, event.completion_tokens)
            right = more == 0 and (as_told or event.code == "engine_unavailable")
        else:
            right = more == 0
        if not right:
            wrong.append(f"{one}: {event}")
    tokens = sum(one.tokens for one in driver.seen)
    totals, gpu = await city.totals(), await city.gpu_totals()
    print(
        f"R8: {len(driver.seen)} requests {dict(kinds)}, {tokens} tokens seen; {dict(havoc.done)} killed; "
        f"{dict(Counter(one.code for one in events if one.code))}; "
        f"{of_killed} more metered in killed workers; settled {took_s:.1f} s after; wrong: {len(wrong)}"
    )
    assert not wrong, "\n".join(wrong)
    assert totals["requests"] == len(events)
    for metric in ("prompt_tokens", "completion_tokens", "cost", "gpu_ns", "start_gpu_ns"):
        assert totals[metric] == sum(getattr(one, metric) for one in events), metric
    assert gpu[Use.BUSY] == totals["gpu_ns"]
