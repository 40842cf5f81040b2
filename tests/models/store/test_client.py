"""Clients: which server they talk to, how long they wait, and what they do when it goes away."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import anyio
import pytest
import redis
import redis.asyncio

from models.home import Home
from models.store import client as store_client
from models.store.client import connect, connect_async, keys_from, redis_url, unix_url
from models.store.embedded import EmbeddedRedis
from models.store.errors import StoreSettingError
from tests.models.store.servers import tcp_redis

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path)


class TestWhere:
    def test_the_embedded_one_unless_another_is_named(self, home):
        assert redis_url(home, {}) == unix_url(home.redis_socket)
        assert redis_url(home, {"ROUNDHOUSE_REDIS_URL": "  "}) == unix_url(home.redis_socket)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://localhost",
            "redis://127.0.0.1:6379/2",
            "redis://user:pa%20ss@host:6380/0",
            "rediss://host:6380/0",
            "redis://[::1]:6379",
            "unix:///run/redis.sock",
            "unix:///run/redis.sock?db=1",
        ],
    )
    def test_your_own(self, home, url):
        assert redis_url(home, {"ROUNDHOUSE_REDIS_URL": url}) == url

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:6379",
            "http://host",
            "redis://",
            "redis:///0",
            "unix://redis.sock",
            "unix:",
            "redis://:secret@host:notaport",
            "redis://:secret@host:99999",
            "redis://:secret@[::1",
        ],
    )
    def test_what_is_no_url_is_told_without_its_password(self, home, url):
        with pytest.raises(
            StoreSettingError, match="ROUNDHOUSE_REDIS_URL is not a Redis URL; write redis://"
        ) as caught:
            redis_url(home, {"ROUNDHOUSE_REDIS_URL": url})
        assert "secret" not in str(caught.value)

    def test_installations_share_a_server_by_prefix(self):
        assert keys_from({}).routes == "roundhouse:routes"
        assert keys_from({"ROUNDHOUSE_REDIS_PREFIX": "team-a"}).routes == "team-a:routes"
        assert keys_from({"ROUNDHOUSE_REDIS_PREFIX": "{rh}"[1:-1]}).routes == "rh:routes"

    @pytest.mark.parametrize("prefix", ["a b", "*", "-a", "a\nb", "x" * 65, "ä"])
    def test_a_prefix_that_would_match_too_much(self, prefix):
        with pytest.raises(StoreSettingError, match="ROUNDHOUSE_REDIS_PREFIX may hold up to 64"):
            keys_from({"ROUNDHOUSE_REDIS_PREFIX": prefix})


class TestTalking:
    def test_answers_are_bytes(self, client):
        client.set("a", "ä")
        assert client.get("a") == "ä".encode()
        assert client.hset("h", "f", "1") == 1
        assert client.hgetall("h") == {b"f": b"1"}

    async def test_the_async_client_does_the_same(self, url):
        async with connect_async(url) as client:
            await client.set("a", "1")
            assert await client.get("a") == b"1"

    def test_it_can_be_told_apart_at_the_server(self, client):
        assert "roundhouse" in {each["name"] for each in client.client_list()}

    def test_scripts_run(self, client):
        script = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
        assert script(keys=["n"], args=[3]) == 3

    def test_a_password_is_used(self):
        with tcp_redis("--requirepass", "secret") as port:
            with connect(f"redis://:secret@127.0.0.1:{port}/0") as client:
                assert client.ping()
            with connect(f"redis://127.0.0.1:{port}/0") as client, pytest.raises(redis.AuthenticationError):
                client.ping()


class TestWaiting:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        """A client that waits 0.1 s instead of 5 s."""
        monkeypatch.setattr(store_client, "ANSWER_TIMEOUT_S", 0.1)

    def test_a_blocking_command_is_waited_for(self, url):
        with connect(url, block_s=0.4) as client:
            assert client.blpop(["nothing"], timeout=0.2) is None

    def test_without_that_it_would_be_cut_off(self, url):
        with connect(url) as client, pytest.raises(redis.TimeoutError):
            client.blpop(["nothing"], timeout=2)

    async def test_a_blocking_command_is_waited_for_by_the_async_client_too(self, url):
        async with connect_async(url, block_s=0.4) as client:
            assert await client.blpop(["nothing"], timeout=0.2) is None

    async def test_a_subscription_waits_longer_than_an_answer(self, url):
        async with connect_async(url) as client, client.pubsub() as subscription:
            await subscription.subscribe("news")
            assert (await anext(subscription.listen()))["type"] == "subscribe"

            async def publish_late() -> None:
                await anyio.sleep(0.25)
                await client.publish("news", "late")

            async with anyio.create_task_group() as group:
                group.start_soon(publish_late)
                message = await anext(subscription.listen())
            assert message["data"] == b"late"

    def test_a_silent_server_is_given_up_and_not_asked_twice(self):
        with Silent() as silent, connect(f"redis://127.0.0.1:{silent.port}/0") as client:
            with pytest.raises(redis.TimeoutError):
                client.ping()
            assert silent.connections == 1

    async def test_the_async_client_gives_it_up_too(self):
        with Silent() as silent:
            async with connect_async(f"redis://127.0.0.1:{silent.port}/0") as client:
                with pytest.raises(redis.TimeoutError):
                    await client.ping()
            assert silent.connections == 1


class TestComingBack:
    def test_a_restart_is_not_noticed(self):
        with EmbeddedRedis() as store, connect(store.url) as client:
            client.set("a", "1")
            store.stop()
            store.start()
            assert client.get("a") == b"1"

    async def test_a_restart_is_not_noticed_by_the_async_client(self):
        with EmbeddedRedis() as store:
            async with connect_async(store.url) as client:
                await client.set("a", "1")
                store.stop()
                store.start()
                assert await client.get("a") == b"1"

    async def test_a_subscription_comes_back_by_itself(self):
        with EmbeddedRedis() as store:
            async with connect_async(store.url) as client, client.pubsub() as subscription:
                await subscription.subscribe("news")
                assert (await subscription.get_message(timeout=5))["type"] == "subscribe"
                store.stop()
                store.start()
                await subscription.get_message(timeout=0.05)  # finds the loss and subscribes again
                seen: list[bytes] = []
                with anyio.fail_after(10):
                    while not seen:
                        await client.publish("news", "hello")
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=0.1)
                        seen += [message["data"]] if message else []
                assert seen == [b"hello"]

    def test_a_server_that_is_gone_is_told_quickly(self):
        with EmbeddedRedis() as store, connect(store.url) as client:
            store.stop()
            began_s = time.monotonic()
            with pytest.raises(redis.ConnectionError):
                client.ping()
            assert time.monotonic() - began_s < store_client.CONNECT_TIMEOUT_S


class Silent:
    """A server that accepts and never answers."""

    def __enter__(self) -> Silent:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        for each in (*self._open, self._server):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                self._open.append(self._server.accept()[0])
            except OSError:
                return
            self.connections += 1
