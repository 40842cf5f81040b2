"""An application that is made when it is needed: pages without it, made once, made again after a failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.later import Later
from gateway.plane.outlet import Ready

pytestmark = pytest.mark.anyio


class Whole:
    """An application that says which path it was asked for, and what was added to it."""

    def __init__(self) -> None:
        self.added: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"whole {scope['path']} {self.added}".encode()})


class Maker:
    def __init__(self, fail: int = 0) -> None:
        self.made = 0
        self.threads: set[int] = set()
        self.go_on = threading.Event()
        self.go_on.set()
        self._fail = fail

    def __call__(self) -> Whole:
        self.made += 1
        self.threads.add(threading.get_ident())
        assert self.go_on.wait(20)
        if self.made <= self._fail:
            raise RuntimeError("not this time")
        return Whole()


async def page() -> Ready:
    return Ready(503, b"soon", b"content-type: text/plain\r\nX-More: a: b\r\n")


def later(make: Callable[[], Whole]) -> Later:
    return Later(make, {"/page": page})


async def ask(app: Later, path: str, method: str = "GET") -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads")

    await app({"type": "http", "path": path, "method": method}, receive, send)
    head, body = sent
    return head["status"], head["headers"], body["body"]


async def test_pages_are_answered_without_it() -> None:
    make = Maker()
    status, headers, body = await ask(later(make), "/page")
    assert (status, body) == (503, b"soon")
    assert headers == [(b"content-type", b"text/plain"), (b"x-more", b"a: b"), (b"content-length", b"4")]
    assert make.made == 0


async def test_it_is_made_once_on_a_thread_for_all_who_ask() -> None:
    make = Maker()
    app = later(make)
    app.then(lambda whole: whole.added.append("more"))
    answers = await asyncio.gather(*(ask(app, f"/{number}") for number in range(5)))
    assert [body for _, _, body in answers] == [f"whole /{number} ['more']".encode() for number in range(5)]
    assert (await ask(app, "/again"))[2] == b"whole /again ['more']"
    assert make.made == 1
    assert make.threads.isdisjoint({threading.get_ident()})


async def test_other_methods_on_a_page_are_its_business() -> None:
    assert (await ask(later(Maker()), "/page", "POST"))[2] == b"whole /page []"


async def test_pages_go_on_while_it_is_made() -> None:
    make = Maker()
    make.go_on.clear()
    app = later(make)
    asking = asyncio.create_task(ask(app, "/x"))
    await asyncio.sleep(0)
    assert (await ask(app, "/page"))[0] == 503
    assert not asking.done()
    make.go_on.set()
    assert (await asking)[0] == 200


async def test_who_asked_first_and_left_takes_nothing_from_the_others() -> None:
    make = Maker()
    make.go_on.clear()
    app = later(make)
    first, second = (asyncio.create_task(ask(app, path)) for path in ("/1", "/2"))
    await asyncio.sleep(0)
    first.cancel()
    make.go_on.set()
    assert (await second)[2] == b"whole /2 []"
    assert make.made == 1


async def test_a_failure_is_told_to_all_who_wait_and_tried_again_for_the_next() -> None:
    make = Maker(fail=1)
    app = later(make)
    failed = await asyncio.gather(*(ask(app, "/x") for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in failed] == ["not this time"] * 3
    assert (await ask(app, "/x"))[0] == 200
    assert make.made == 2
