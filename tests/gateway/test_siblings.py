"""Workers that ask each other: those that are gone or silent are left out, and nobody waits long for them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.siblings import Siblings, resident_bytes

pytestmark = pytest.mark.anyio


@pytest.fixture
async def three(sockets: Path) -> AsyncIterator[list[Siblings]]:
    all_of_them = [Siblings(index, 3, sockets) for index in range(3)]
    for each in all_of_them:
        each.answers["name"] = lambda index=each.index: b"worker %d" % index  # type: ignore[misc]
        await each.open()
    yield all_of_them
    for each in all_of_them:
        await each.close()


async def test_each_is_told_what_the_others_say(three: list[Siblings]) -> None:
    assert await three[0].ask("name") == {1: b"worker 1", 2: b"worker 2"}
    assert await three[2].ask("name") == {0: b"worker 0", 1: b"worker 1"}


async def test_large_and_empty_answers(three: list[Siblings]) -> None:
    three[1].answers["text"] = lambda: b"x" * (3 << 20)
    three[2].answers["text"] = lambda: b""
    got = await three[0].ask("text")
    assert (len(got[1]), got[2]) == (3 << 20, b"")


async def test_what_nobody_knows_nobody_answers(three: list[Siblings]) -> None:
    three[1].answers["rare"] = lambda: b"yes"
    assert await three[0].ask("rare") == {1: b"yes"}
    assert await three[0].ask("x" * 1000) == {}


async def test_who_is_gone_or_dead_is_left_out(three: list[Siblings], sockets: Path) -> None:
    await three[1].close()
    assert await three[0].ask("name") == {2: b"worker 2"}
    (sockets / "1.sock").touch()  # nobody listens any more
    assert await three[0].ask("name") == {2: b"worker 2"}
    successor = Siblings(1, 3, sockets)
    successor.answers["name"] = lambda: b"the next one"
    await successor.open()
    assert await three[0].ask("name") == {1: b"the next one", 2: b"worker 2"}
    await successor.close()


async def test_who_hangs_costs_a_moment_only(three: list[Siblings], sockets: Path) -> None:
    await three[1].close()
    silent = await asyncio.start_unix_server(lambda reader, writer: None, sockets / "1.sock")
    began_s = time.monotonic()
    assert await three[0].ask("name", timeout_s=0.2) == {2: b"worker 2"}
    assert time.monotonic() - began_s < 5
    silent.close()


async def test_nonsense_for_an_answer_is_none(three: list[Siblings], sockets: Path) -> None:
    await three[1].close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"not a number\nrest")
        writer.close()

    server = await asyncio.start_unix_server(babble, sockets / "1.sock")
    assert await three[0].ask("name") == {2: b"worker 2"}
    server.close()


async def test_only_this_user_may_ask(three: list[Siblings], sockets: Path) -> None:
    assert (sockets / "0.sock").stat().st_mode & 0o777 == 0o600


async def test_one_alone_has_nobody_to_ask_and_makes_no_socket(sockets: Path) -> None:
    for alone in (Siblings(), Siblings(0, 1, sockets), Siblings(0, 3, None)):
        await alone.open()
        assert await alone.ask("name") == {}
        await alone.close()
    assert list(sockets.iterdir()) == []


def test_memory_is_read_in_bytes() -> None:
    assert 5 << 20 < resident_bytes() < 64 << 30
    assert resident_bytes() % os.sysconf("SC_PAGE_SIZE") == 0
