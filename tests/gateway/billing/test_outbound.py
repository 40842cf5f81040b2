"""Where webhooks may be, and what becomes of receivers that are not as they should be."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from gateway.billing import outbound
from gateway.billing.outbound import Attempt, Poster
from models.store.webhook_checks import UrlNotValid, check_url
from tests.gateway.billing.receiver import receiver

pytestmark = pytest.mark.anyio


class Names(AbstractResolver):
    """Every name is this address; another one each time it is asked, if there are several."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        self.asked.append(host)
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        found = {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [found]

    async def close(self) -> None: ...


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    made = Poster()
    yield made
    await made.close()


async def post(poster: Poster, url: str, *, allow_private: bool = True) -> Attempt:
    return await poster.post(url, b"{}", {"webhook-id": "m"}, allow_private=allow_private)


async def test_what_is_told_gets_there(poster: Poster) -> None:
    async with receiver() as there:
        assert await post(poster, there.url) == Attempt(True)
    headers, body = there.got[0]
    assert body == b"{}"
    assert (headers["webhook-id"], headers["content-type"]) == ("m", "application/json")


async def test_private_addresses_are_refused_and_not_even_connected_to(poster: Poster) -> None:
    async with receiver() as there:
        port = there.port
        hosts = ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1")
        for host in hosts:
            attempt = await post(poster, f"http://{host}:{port}/hook", allow_private=False)
            assert not attempt.ok, host
            assert "allow_private" in attempt.reason or "canonical" in attempt.reason, (host, attempt)
        assert there.got == []


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1"])
async def test_names_of_private_addresses_are_refused(address: str) -> None:
    poster = Poster(Names(address))
    try:
        attempt = await post(poster, "https://hook.example/", allow_private=False)
        assert not attempt.ok
        assert "hook.example is not on the internet" in attempt.reason
    finally:
        await poster.close()


async def test_a_name_that_is_another_address_when_asked_again_gains_nothing() -> None:
    async with receiver() as there:
        names = Names("203.0.113.1", "127.0.0.1")
        poster = Poster(names)
        try:
            for _ in range(2):
                refused = await poster.post(f"http://hook.example:{there.port}/", b"", {}, allow_private=False)
                assert not refused.ok
        finally:
            await poster.close()
    assert there.got == []


async def test_what_is_open_for_one_webhook_is_not_used_for_another(poster: Poster) -> None:
    async with receiver() as there:
        assert (await post(poster, there.url)).ok
        assert not (await post(poster, there.url, allow_private=False)).ok
        assert len(there.got) == 1


async def test_redirects_are_not_followed(poster: Poster) -> None:
    async with receiver() as elsewhere, receiver(says=[302], headers={"location": elsewhere.url}) as there:
        assert await post(poster, there.url) == Attempt(False, "status 302")
    assert elsewhere.got == []


async def test_what_a_receiver_asks_for(poster: Poster) -> None:
    async with receiver(says=[503, 410], headers={"retry-after": "90"}) as there:
        assert await post(poster, there.url) == Attempt(False, "status 503", retry_after_s=90.0)
        assert (await post(poster, there.url)).gone


async def test_one_that_says_nothing_is_not_waited_for(poster: Poster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "ANSWER_S", 0.1)
    async with receiver(hangs=True) as there:
        attempt = await post(poster, there.url)
    assert attempt == Attempt(False, "no answer within 0.1 s")


async def test_one_that_is_not_there(poster: Poster) -> None:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        attempt = await post(poster, f"http://127.0.0.1:{bound.getsockname()[1]}/")
    assert not attempt.ok
    assert attempt.reason.startswith("no connection")


@pytest.mark.parametrize(
    "url",
    ["", "hook", "ftp://h/", "http://", "http://h:99999/", "http://h/\n", "http://h/ x", "http://hä/", "http://h:0/"],
)
async def test_what_is_no_url(poster: Poster, url: str) -> None:
    with pytest.raises(UrlNotValid, match="is no URL"):
        check_url(url)
    assert not (await post(poster, url)).ok


def test_secrets_do_not_belong_into_urls() -> None:
    with pytest.raises(UrlNotValid, match="signed instead"):
        check_url("https://user:hunter2@h/")


@pytest.mark.parametrize("url", ["https://h", "http://h:8080/a?b=c", "https://[2606:4700::1111]/", "https://1.1.1.1/"])
def test_what_is_one(url: str) -> None:
    check_url(url)
