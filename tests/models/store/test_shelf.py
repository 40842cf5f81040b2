"""What callers keep: each sees its own, within its quota, for as long as it was to be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from redis.asyncio import Redis

from models.store.client import connect, connect_async
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.shelf import Overtaken, Quota, Shelf, ShelfFull

pytestmark = pytest.mark.anyio


class Note(msgspec.Struct, frozen=True):
    text: str
    count: int = 0


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Desk:
    url: str
    redis: Redis
    keys: Keys
    clock: Clock = field(default_factory=Clock)

    def shelf(self, most: int = 100, most_bytes: int = 1 << 20, drop_oldest: bool = False) -> Shelf[Note]:
        return Shelf(self.redis, self.keys, "notes", Note, Quota(most, most_bytes, drop_oldest), self.clock)


@pytest.fixture
async def desk(url: str, keys: Keys) -> AsyncIterator[Desk]:
    redis = connect_async(url)
    yield Desk(url, redis, keys)
    await redis.aclose()


async def names(shelf: Shelf[Note], owner: str) -> list[str]:
    page = await shelf.page(owner, after=None, limit=1000, newest_first=False)
    return [note.text for note in page.records]


async def test_what_is_put_is_found_by_its_owner_and_nobody_else(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n1", Note("hello"), order=1)
    assert await shelf.get("ann", "n1") == Note("hello")
    assert await shelf.get("bob", "n1") is None
    assert not await shelf.remove("bob", "n1")
    assert await names(shelf, "bob") == []
    assert await shelf.get("ann", "n1") == Note("hello"), "another's deleting changes nothing"


async def test_the_same_id_of_two_owners_is_two_records(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n", Note("ann's"), order=1)
    await shelf.put("bob", "n", Note("bob's"), order=1)
    assert await shelf.remove("ann", "n")
    assert (await shelf.get("ann", "n"), await shelf.get("bob", "n")) == (None, Note("bob's"))


async def test_putting_again_replaces_and_counts_once(desk: Desk) -> None:
    shelf = desk.shelf()
    for text in ("a", "bb", "ccc"):
        await shelf.put("ann", "n", Note(text), order=1, size_bytes=len(text))
    assert await shelf.get("ann", "n") == Note("ccc")
    assert await shelf.held("ann") == (1, 3)


async def test_a_full_shelf_refuses_and_keeps_what_it_has(desk: Desk) -> None:
    shelf = desk.shelf(most_bytes=100)
    await shelf.put("ann", "one", Note("one"), order=1, size_bytes=60)
    with pytest.raises(ShelfFull):
        await shelf.put("ann", "two", Note("two"), order=2, size_bytes=41)
    assert await names(shelf, "ann") == ["one"]
    await shelf.put("bob", "two", Note("two"), order=2, size_bytes=100)
    await shelf.remove("ann", "one")
    await shelf.put("ann", "two", Note("two"), order=2, size_bytes=100)


async def test_by_count_too(desk: Desk) -> None:
    shelf = desk.shelf(most=2)
    for number in range(2):
        await shelf.put("ann", f"n{number}", Note(str(number)), order=number)
    with pytest.raises(ShelfFull):
        await shelf.put("ann", "n2", Note("2"), order=2)
    await shelf.put("ann", "n3", Note("3"), order=3, force=True)
    assert await names(shelf, "ann") == ["0", "1", "3"], "what has to be kept is kept"


async def test_where_the_oldest_makes_room(desk: Desk) -> None:
    shelf = desk.shelf(most_bytes=10, drop_oldest=True)
    for number in range(4):
        await shelf.put("ann", f"n{number}", Note(str(number)), order=number, size_bytes=3)
    assert await names(shelf, "ann") == ["1", "2", "3"]
    await shelf.touch("ann", ["n1"], order=10, ttl_s=100)
    await shelf.put("ann", "n4", Note("4"), order=4, size_bytes=3)
    assert await names(shelf, "ann") == ["3", "4", "1"], "what was used lately stays"
    with pytest.raises(ShelfFull):
        await shelf.put("ann", "huge", Note("huge"), order=5, size_bytes=11)
    assert await names(shelf, "ann") == ["3", "4", "1"], "nothing was dropped for what fits in no case"


async def test_what_has_expired_is_gone_and_gives_its_room_back(desk: Desk) -> None:
    shelf = desk.shelf(most=1)
    await shelf.put("ann", "n1", Note("short"), order=1, ttl_s=10)
    desk.clock.now_s += 9
    assert await shelf.get("ann", "n1") is not None
    desk.clock.now_s += 2
    assert await shelf.get("ann", "n1") is None
    assert await names(shelf, "ann") == []
    await shelf.put("ann", "n2", Note("next"), order=2)
    assert await shelf.held("ann") == (1, len(msgspec.json.encode(Note("next"))))


async def test_another_owners_put_clears_away_what_expired(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n1", Note("short"), order=1, ttl_s=10)
    desk.clock.now_s += 11
    await shelf.put("bob", "n1", Note("other"), order=1)
    assert await desk.redis.keys(f"{desk.keys.prefix}:*:ann") == [], "nothing of ann's takes memory"


async def test_using_it_keeps_it_longer(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n1", Note("used"), order=1, ttl_s=10)
    desk.clock.now_s += 8
    await shelf.touch("ann", ["n1", "not-there"], order=2, ttl_s=10)
    desk.clock.now_s += 8
    assert await shelf.get("ann", "n1") is not None
    assert await shelf.get("ann", "not-there") is None
    assert (await shelf.held("ann"))[0] == 1


async def test_pages_in_both_directions(desk: Desk) -> None:
    shelf = desk.shelf(most=1000)
    for number in range(250):
        await shelf.put("ann", f"n{number}", Note(str(number), number), order=number)
    for newest_first in (True, False):
        seen: list[int] = []
        after = None
        more = True
        while more:
            page = await shelf.page("ann", after=after, limit=60, newest_first=newest_first)
            seen += [note.count for note in page.records]
            after, more = f"n{seen[-1]}", page.more
        assert seen == sorted(range(250), reverse=newest_first)


async def test_a_page_of_what_is_wanted(desk: Desk) -> None:
    shelf = desk.shelf(most=1000)
    for number in range(230):
        await shelf.put("ann", f"n{number}", Note(str(number), number), order=number)
    page = await shelf.page("ann", after="n20", limit=3, newest_first=False, wanted=lambda note: note.count % 100 == 0)
    assert ([note.count for note in page.records], page.more) == ([100, 200], False)
    page = await shelf.page("ann", after=None, limit=2, newest_first=False, wanted=lambda note: note.count % 100 == 0)
    assert ([note.count for note in page.records], page.more) == ([0, 100], True)
    assert (await shelf.page("ann", after="nobody", limit=3, newest_first=False)).records == ()


async def test_changes_by_many_are_all_in_it(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n", Note("n"), order=1)

    def plus_one(note: Note) -> Note:
        return Note(note.text, note.count + 1)

    await asyncio.gather(*(shelf.change("ann", "n", plus_one) for _ in range(20)))
    assert await shelf.get("ann", "n") == Note("n", 20)
    assert await shelf.held("ann") == (1, len(msgspec.json.encode(Note("n", 20))))


async def test_a_change_that_wants_nothing_and_one_of_nothing(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n", Note("n"), order=1)
    assert await shelf.change("ann", "n", lambda note: None) is None
    assert await shelf.change("ann", "gone", lambda note: note) is None
    assert await shelf.get("ann", "n") == Note("n")


async def test_a_change_can_end_it(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n", Note("n"), order=1)
    await shelf.change("ann", "n", lambda note: Note("done"), ttl_s=5)
    await shelf.change("ann", "n", lambda note: Note("done again"))
    desk.clock.now_s += 6
    assert await shelf.get("ann", "n") is None


async def test_a_change_that_is_always_overtaken_gives_up(desk: Desk) -> None:
    shelf = desk.shelf()
    await shelf.put("ann", "n", Note("n"), order=1)
    with connect(desk.url) as other:

        def change(note: Note) -> Note:
            other.hset(desk.keys.kept("notes", "ann"), "n", msgspec.json.encode(Note("theirs", note.count + 1)))
            return Note("mine")

        with pytest.raises(Overtaken):
            await shelf.change("ann", "n", change)


async def test_what_is_no_record_is_said_to_be_none(desk: Desk) -> None:
    shelf = desk.shelf()
    await desk.redis.hset(desk.keys.kept("notes", "ann"), "n", b"nonsense")
    with pytest.raises(StoreDataError, match="is not a Note"):
        await shelf.get("ann", "n")
