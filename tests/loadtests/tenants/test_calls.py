"""Callers and engine of the benchmark: what is asked when, and what comes back."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtests.tenants import engine
from loadtests.tenants.caller import LONGEST, SHORTEST, Ask, call, due_s
from loadtests.tenants.http import Broken, answer, read_message, request

pytestmark = pytest.mark.anyio


def ask(port: int = 1, per_second: float = 50.0, seconds: float = 100.0, seed: int = 1) -> Ask:
    return Ask(port, "rh-key", per_second, seconds, 0.05, seed, warmup_s=0.0)


async def test_calls_come_at_random_at_the_rate_that_was_asked_for() -> None:
    calls = list(due_s(ask()))
    assert len(calls) == pytest.approx(5000, rel=0.06)
    gaps_s = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(calls)]
    assert statistics.stdev(gaps_s) == pytest.approx(statistics.mean(gaps_s), rel=0.1), "as of a Poisson process"
    works_s = [work_s for _, work_s in calls]
    assert statistics.mean(works_s) == pytest.approx(0.05, rel=0.05)
    assert SHORTEST * 0.05 <= min(works_s) <= max(works_s) <= LONGEST * 0.05
    assert calls == list(due_s(ask())), "the same ones for the same seed"
    assert calls != list(due_s(ask(seed=2)))


@asynccontextmanager
async def served(*replies: bytes) -> AsyncIterator[tuple[int, list[dict[str, object]]]]:
    """A server that answers with ``replies``, the last one again and again; its port, and what it was asked."""
    bodies: list[dict[str, object]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                _, body = await read_message(reader)
                bodies.append(json.loads(body))
                writer.write(replies[min(len(bodies), len(replies)) - 1])
                await writer.drain()
        except EOFError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], bodies


async def test_all_answers_are_counted_and_those_with_200_are_timed() -> None:
    refused = answer(b"{}").replace(b"200 OK", b"429 Too Many Requests")
    async with served(refused, answer(b"{}")) as (port, bodies):
        heard = await call(ask(port, per_second=400.0, seconds=0.1))
    assert heard.statuses[429] == 1
    assert len(heard.took_ms) == heard.statuses[200] == len(bodies) - 1
    assert all(took_ms > 0 for took_ms in heard.took_ms)
    assert {body["model"] for body in bodies} == {"m"}


async def test_a_connection_that_breaks_counts_as_no_answer() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        heard = await call(ask(server.sockets[0].getsockname()[1], per_second=100.0, seconds=0.1))
    assert set(heard.statuses) == {0}
    assert heard.took_ms == []


async def test_the_warm_up_does_not_count() -> None:
    async with served(answer(b"{}")) as (port, bodies):
        heard = await call(Ask(port, "rh-key", 100.0, 0.1, 0.0, 1, warmup_s=0.1))
    assert 0 < sum(heard.statuses.values()) < len(bodies)


async def test_the_engine_works_as_long_as_it_is_asked_to(short_folder: Path) -> None:
    path = str(short_folder / "e.sock")
    serving = asyncio.create_task(engine.main(path))
    while not Path(path).exists():
        await asyncio.sleep(0.001)
    reader, writer = await asyncio.open_unix_connection(path)
    began_s = asyncio.get_running_loop().time()
    for work_s in (0.0, 0.05):
        writer.write(request(json.dumps({"work_s": work_s}).encode(), "rh-key"))
        line, body = await read_message(reader)
        assert line == b"http/1.1 200 ok"
        assert json.loads(body)["usage"]["total_tokens"] == 50
    assert asyncio.get_running_loop().time() - began_s >= 0.05
    writer.close()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", EOFError),
        (b"GET / HT", Broken),
        (b"GET / HTTP/1.1\r\n\r\n", Broken),
        (b"\r\nContent-Length: 3\r\n\r\nab", Broken),
    ],
)
async def test_what_is_no_whole_message_is_told_from_an_end(text: bytes, error: type[Exception]) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(text)
    reader.feed_eof()
    with pytest.raises(error):
        await read_message(reader)
