"""API keys: cached, revocable, and usable for a while when the store is away. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.auth import (
    GRACE_S,
    KNOWN_FOR_S,
    LAST_LOOK_S,
    LOOKUP_TIMEOUT_S,
    MOST_UNKNOWN,
    STORE_PAUSE_S,
    UNKNOWN_FOR_S,
    Authenticator,
    KeyStoreDown,
    hash_of,
)
from gateway.clock import Clock
from gateway.errors import Forbidden, GatewayError, StoreUnavailable, Unauthorized
from models.store.api_keys import hash_key
from models.store.records import KeyRecord
from tests.gateway.virtual_time import play

KEY = "rh-" + "k" * 32


def record(*scopes: str, revoked_s: float | None = None, expires_s: float | None = None) -> KeyRecord:
    return KeyRecord(
        key_id="key_1",
        expires_unix_s=expires_s,
        name="n",
        scopes=scopes or ("inference",),
        prefix="rh-k",
        created_unix_s=0.0,
        revoked_unix_s=revoked_s,
    )


@dataclass
class FakeKeyStore:
    records: dict[str, KeyRecord] = field(default_factory=dict)
    down: bool = False
    asked: int = 0
    takes_s: float = 0.0

    async def find(self, key_hash: str) -> KeyRecord | None:
        self.asked += 1
        if self.down:
            raise KeyStoreDown("it is down")
        found = self.records.get(key_hash)
        await asyncio.sleep(self.takes_s)
        return found


class Door:
    def __init__(self) -> None:
        self.store = FakeKeyStore({hash_key(KEY): record()})
        self.now_s = 1000.0
        self.authenticator = Authenticator(self.store, Clock(unix=lambda: self.now_s, monotonic=lambda: self.now_s))

    async def knock(self, key: str = KEY, scope: str = "inference") -> KeyRecord:
        return await self.authenticator.authenticate([(b"authorization", f"Bearer {key}".encode())], scope)

    async def refused(self, key: str = KEY, scope: str = "inference") -> GatewayError:
        with pytest.raises(GatewayError) as error:
            await self.knock(key, scope)
        assert key not in error.value.message, "a key is never repeated"
        return error.value


def story(coroutine: Coroutine[Any, Any, None]) -> None:
    play(coroutine)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b"bearer   " + KEY.encode() + b" ")],
        [(b"x-api-key", KEY.encode())],
        [(b"authorization", b"Basic abc"), (b"x-api-key", KEY.encode())],
        [(b"x-api-key", b"other"), (b"authorization", b"Bearer " + KEY.encode())],
    ],
)
def test_both_ways_to_send_a_key(headers: list[tuple[bytes, bytes]]) -> None:
    async def run() -> None:
        assert (await Door().authenticator.authenticate(headers, "inference")).key_id == "key_1"

    story(run())


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer   ")],
        [(b"authorization", b"Basic " + KEY.encode())],
        [(b"authorization", KEY.encode())],
        [(b"x-api-key", b" ")],
    ],
)
def test_no_key(headers: list[tuple[bytes, bytes]]) -> None:
    async def run() -> None:
        door = Door()
        with pytest.raises(Unauthorized) as refused:
            await door.authenticator.authenticate(headers, "inference")
        assert "x-api-key" in refused.value.message
        assert door.store.asked == 0

    story(run())


@pytest.mark.parametrize("key", [KEY[:-1], KEY + "x", KEY.upper(), "rh-wrong", "é" * 10])
def test_a_key_is_right_or_wrong_as_a_whole(key: str) -> None:
    async def run() -> None:
        assert isinstance(await Door().refused(key), Unauthorized)

    story(run())


def test_a_key_opens_only_what_its_scopes_say() -> None:
    async def run() -> None:
        door = Door()
        assert isinstance(await door.refused(scope="admin"), Forbidden)
        door.store.records[hash_key("both")] = record("inference", "admin")
        await door.knock("both", "admin")
        await door.knock("both", "inference")

    story(run())


def test_a_revoked_key_is_no_key() -> None:
    async def run() -> None:
        door = Door()
        door.store.records[hash_key(KEY)] = record(revoked_s=5.0)
        assert isinstance(await door.refused(), Unauthorized)

    story(run())


def test_the_store_is_asked_once_a_minute() -> None:
    async def run() -> None:
        door = Door()
        for _ in range(10):
            await door.knock()
            door.now_s += KNOWN_FOR_S / 10.001
        assert door.store.asked == 1
        door.now_s += 1
        await door.knock()
        assert door.store.asked == 2

    story(run())


def test_a_burst_of_first_requests_is_one_question() -> None:
    async def run() -> None:
        door = Door()
        door.store.takes_s = 0.1
        assert len(await asyncio.gather(*(door.knock() for _ in range(200)))) == 200
        assert door.store.asked == 1

    story(run())


def test_the_first_of_a_burst_may_leave_without_harm_to_the_others() -> None:
    async def run() -> None:
        door = Door()
        door.store.takes_s = 0.1
        first, second = asyncio.ensure_future(door.knock()), asyncio.ensure_future(door.knock())
        await asyncio.sleep(0.05)
        first.cancel()
        assert (await second).key_id == "key_1"
        assert door.store.asked == 1

    story(run())


def test_an_answer_from_before_a_revocation_is_not_remembered_after_it() -> None:
    async def run() -> None:
        door = Door()
        door.store.takes_s = 0.1
        early = asyncio.ensure_future(door.knock())
        await asyncio.sleep(0.05)  # the store was read; now the key is revoked
        door.store.records = {hash_key(KEY): record(revoked_s=1.0)}
        door.authenticator.invalidate()
        assert isinstance(await door.refused(), Unauthorized), "it asks anew, not the old question's answer"
        await early
        assert isinstance(await door.refused(), Unauthorized)

    story(run())


def test_a_silent_store_costs_a_request_at_most_a_fifth_of_a_second() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.authenticator.invalidate()
        door.store.takes_s = 60.0
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await door.knock()  # on trust
        assert loop.time() - began_s <= 0.2
        assert isinstance(await door.refused("never-seen"), StoreUnavailable)
        assert loop.time() - began_s <= 0.2, "it is not asked again at once"

    story(run())


def test_a_late_answer_serves_the_next_try_and_shows_that_the_store_lives() -> None:
    async def run() -> None:
        door = Door()
        door.store.takes_s = 0.3
        assert isinstance(await door.refused(), StoreUnavailable)
        await asyncio.sleep(0.2)
        asked = door.store.asked
        await door.knock()
        assert door.store.asked == asked, "the late answer was kept"
        door.store.takes_s = 0.0
        door.store.records[hash_key("other")] = record()
        await door.knock("other")  # and nobody waits for a pause to end

    story(run())


def test_a_late_answer_from_before_a_revocation_is_not_kept() -> None:
    async def run() -> None:
        door = Door()
        door.store.takes_s = 0.3
        await door.refused()
        door.store.records = {hash_key(KEY): record(revoked_s=1.0)}
        door.authenticator.invalidate()
        await asyncio.sleep(0.2)
        door.store.takes_s = 0.0
        assert isinstance(await door.refused(), Unauthorized)

    story(run())


def test_an_answer_just_after_the_first_look_is_still_taken() -> None:
    async def run() -> None:
        door = Door()
        door.store.takes_s = LOOKUP_TIMEOUT_S + LAST_LOOK_S / 2
        await door.knock()

    story(run())


def test_a_wrong_key_is_remembered_for_a_few_seconds() -> None:
    async def run() -> None:
        door = Door()
        await door.refused("new-key")
        door.store.records[hash_key("new-key")] = record()
        assert isinstance(await door.refused("new-key"), Unauthorized)
        assert door.store.asked == 1
        door.now_s += UNKNOWN_FOR_S
        await door.knock("new-key")

    story(run())


def test_news_of_keys_count_at_once() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        await door.refused("new-key")
        door.store.records = {hash_key(KEY): record(revoked_s=1.0), hash_key("new-key"): record()}
        door.authenticator.invalidate()
        await door.refused()
        await door.knock("new-key")

    story(run())


def test_seen_keys_work_on_while_the_store_is_away_and_unknown_ones_are_not_called_wrong() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.now_s += KNOWN_FOR_S - 1
        await door.knock()
        door.store.down = True
        door.now_s += 30  # past the cache, within the grace
        await door.knock()
        stranger = await door.refused("never-seen")
        assert isinstance(stranger, StoreUnavailable)
        assert stranger.status == 503
        assert dict(stranger.headers())["retry-after"]

    story(run())


def test_a_key_not_seen_for_long_is_not_taken_on_trust() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.store.down = True
        door.now_s += GRACE_S + 1
        assert isinstance(await door.refused(), StoreUnavailable)

    story(run())


def test_news_of_keys_do_not_take_the_grace_away() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.authenticator.invalidate()
        door.store.down = True
        await door.knock()

    story(run())


def test_a_store_that_is_away_is_not_asked_for_every_request() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.authenticator.invalidate()
        door.store.down = True
        asked = door.store.asked
        for _ in range(100):
            await door.knock()
        assert door.store.asked == asked + 1
        door.now_s += STORE_PAUSE_S
        door.store.down = False
        await door.knock()
        assert door.store.asked == asked + 2

    story(run())


def test_a_key_that_was_revoked_has_no_grace() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.store.records = {hash_key(KEY): record(revoked_s=1.0)}
        door.authenticator.invalidate()
        await door.refused()
        door.store.down = True
        door.now_s += 2
        assert isinstance(await door.refused(), Unauthorized)

    story(run())


def test_trying_keys_fills_no_memory_and_disturbs_nobody() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        for number in range(MOST_UNKNOWN + 100):
            with pytest.raises(Unauthorized):
                await door.knock(f"guess-{number}")
        assert len(door.authenticator._unknown) == MOST_UNKNOWN
        asked = door.store.asked
        await door.knock()
        assert door.store.asked == asked

    story(run())


# -- without asking: what most requests go by ------------------------------------------------------------------------


def test_a_key_goes_by_its_hash() -> None:
    assert hash_of([(b"host", b"h"), (b"authorization", b"Bearer " + KEY.encode())]) == hash_key(KEY)
    assert hash_of([(b"x-api-key", b" " + KEY.encode())]) == hash_key(KEY)
    assert hash_of([(b"x-api-key", b"k\xe9y")]) == hash_key("k\xe9y"), "headers are Latin-1"


def test_a_key_that_was_seen_is_recalled_without_the_store() -> None:
    async def run() -> None:
        door = Door()
        known = hash_key(KEY)
        assert door.authenticator.recall(known, "inference") is None, "never seen: ask"
        assert await door.authenticator.authenticate_hash(known, "inference") == record()
        asked = door.store.asked
        assert door.authenticator.recall(known, "inference") == record()
        with pytest.raises(Forbidden):
            door.authenticator.recall(known, "admin")
        door.now_s += KNOWN_FOR_S
        assert door.authenticator.recall(known, "inference") is None, "no longer fresh: ask"
        assert door.store.asked == asked

    story(run())


def test_a_key_that_is_known_not_to_be_one_is_refused_without_the_store() -> None:
    async def run() -> None:
        door = Door()
        await door.refused("wrong")
        with pytest.raises(Unauthorized):
            door.authenticator.recall(hash_key("wrong"), "inference")
        door.now_s += UNKNOWN_FOR_S
        assert door.authenticator.recall(hash_key("wrong"), "inference") is None

    story(run())


def test_a_revoked_key_is_not_recalled() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.store.records = {hash_key(KEY): record(revoked_s=1.0)}
        door.authenticator.invalidate()
        assert door.authenticator.recall(hash_key(KEY), "inference") is None, "news: ask"
        await door.refused()
        with pytest.raises(Unauthorized):
            door.authenticator.recall(hash_key(KEY), "inference")

    story(run())


def test_while_the_store_is_away_only_one_request_a_second_asks() -> None:
    async def run() -> None:
        door = Door()
        await door.knock()
        door.authenticator.invalidate()
        door.store.down = True
        assert door.authenticator.recall(hash_key(KEY), "inference") is None
        await door.knock()  # finds out
        for _ in range(100):
            assert door.authenticator.recall(hash_key(KEY), "inference") == record()
        door.now_s += STORE_PAUSE_S
        assert door.authenticator.recall(hash_key(KEY), "inference") is None, "time to look again"
        await door.knock()
        door.now_s += GRACE_S + 1
        assert door.authenticator.recall(hash_key(KEY), "inference") is None
        assert isinstance(await door.refused(), StoreUnavailable)
        assert door.authenticator.recall(hash_key(KEY), "inference") is None, "trust has ended"

    story(run())


def test_a_key_that_has_ended_is_refused_to_the_second() -> None:
    async def run() -> None:
        door = Door()
        door.store.records[hash_key(KEY)] = record(expires_s=1030.0)
        await door.knock()
        door.now_s = 1029.9
        assert door.authenticator.recall(hash_key(KEY), "inference") is not None
        door.now_s = 1030.0
        assert (await door.refused()).code == "expired_api_key"
        with pytest.raises(Unauthorized, match="expired"):
            door.authenticator.recall(hash_key(KEY), "inference")
        assert door.store.asked == 1, "it was known already"

    story(run())


def test_also_while_the_store_is_away() -> None:
    async def run() -> None:
        door = Door()
        door.store.records[hash_key(KEY)] = record(expires_s=1000.0 + KNOWN_FOR_S + 1)
        await door.knock()
        door.store.down = True
        door.now_s += KNOWN_FOR_S
        await door.knock()
        door.now_s += 1
        assert (await door.refused()).code == "expired_api_key"

    story(run())


@pytest.mark.parametrize(
    ("scopes", "opens"),
    [
        (("admin",), {"admin:read", "admin:write", "admin"}),
        (("admin:write",), {"admin:read", "admin:write"}),
        (("admin:read",), {"admin:read"}),
        (("inference",), {"inference"}),
        (("inference", "admin:read"), {"inference", "admin:read"}),
    ],
)
def test_which_scope_opens_what(scopes: tuple[str, ...], opens: set[str]) -> None:
    async def run() -> None:
        door = Door()
        door.store.records[hash_key(KEY)] = record(*scopes)
        for scope in ("inference", "admin:read", "admin:write", "admin"):
            if scope in opens:
                await door.knock(scope=scope)
            else:
                assert isinstance(await door.refused(scope=scope), Forbidden)

    story(run())


def test_what_is_looked_up_again_and_is_the_same_stays_the_same_record() -> None:
    """Its account is found by it."""

    async def run() -> None:
        door = Door()
        first = await door.knock()
        door.store.records[hash_key(KEY)] = record()
        door.authenticator.invalidate()
        assert await door.knock() is first
        door.store.records[hash_key(KEY)] = record("inference", "admin")
        door.authenticator.invalidate()
        assert await door.knock() is not first

    story(run())
