"""What is in the streams becomes rollups and settled events: once, whoever is killed when."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounts import Placed
from gateway.billing.books import Books, Overtaken
from gateway.billing.settlement import MOST_AT_ONCE, RESIDENT
from gateway.billing.settler import GIVEN_UP_S, Settler
from gateway.limits.reading import usage_of
from models.store.client import connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.limit_text import parse_limit
from models.store.records import KeyRecord
from models.store.tenancy import Bearer, TenantRecord
from models.store.usage import METRICS, GpuPicture, OpenRequest, Phase, Run, UsageEvent, Use
from tests.gateway.billing.gpu_worlds import LONGEST_US, MEMORY, T0, World, occupant, picture, worlds
from tests.gateway.billing.ledger import HOUSE, SECOND_US, Ledger, event

pytestmark = pytest.mark.anyio
SECOND_NS = 10**9


@pytest.fixture
async def ledger(redis_server: EmbeddedRedis, keys: Keys) -> AsyncIterator[Ledger]:
    client = connect_async(redis_server.url)
    made = Ledger(client, keys)
    await made.house()
    yield made
    await client.aclose()


async def settle(settler: Settler) -> None:
    while await settler.step():
        pass


def opened(name: str, replica: str, from_us: int, **more: Any) -> OpenRequest:
    return OpenRequest(
        id=name, key_id="k", project="p", tenant="t", model=f"model-{replica}", replica=replica, from_us=from_us, **more
    )


async def test_a_request_is_priced_by_what_it_used(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY // 4))])
    await ledger.events([event("r1", "a", T0 + 1000, SECOND_US)])
    await ledger.until(T0 + 3 * SECOND_US)
    await settle(ledger.settler())
    (settled,) = await ledger.settled()
    assert settled.gpu_ns == SECOND_NS // 4
    assert settled.memory_kib_ms == (MEMORY >> 10) * 1000 // 4
    assert settled.lines == {
        "input_token": 96_000, "cached_token": 6_000, "output_token": 141_000, "gpu_second": 227_500,
        "gib_second": 2759, "request": 10_000,
    }  # fmt: skip
    assert settled.cost == sum(settled.lines.values())
    assert (settled.currency, settled.price_version) == ("USD", 3)
    totals = await ledger.totals()
    assert totals == {
        "requests": 1, "prompt_tokens": 100, "cached_tokens": 20, "completion_tokens": 30, "run_us": SECOND_US,
        "gpu_ns": SECOND_NS // 4, "memory_kib_ms": settled.memory_kib_ms, "cost": settled.cost,
    }  # fmt: skip
    assert await ledger.totals("day") == await ledger.totals("hour") == totals
    assert await ledger.gpu_totals() == {
        Use.BUSY: SECOND_NS // 4, Use.IDLE: SECOND_NS // 2, Use.FREE: SECOND_NS * 9 // 4,
    }  # fmt: skip
    assert await ledger.redis.xlen(ledger.keys.usage_events) == 0
    assert await ledger.redis.xlen(ledger.keys.gpu_timeline) == 0


async def test_a_long_request_is_followed_while_it_runs(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY))])
    settler = ledger.settler()
    for second in range(1, 5):
        await ledger.until(T0 + second * SECOND_US, [opened("long", "a", T0)])
        await settle(settler)
    assert await ledger.settled() == []
    assert (await ledger.gpu_totals())[Use.BUSY] == 4 * SECOND_NS
    await ledger.events([event("long", "a", T0, 9 * SECOND_US // 2)])
    await ledger.until(T0 + 6 * SECOND_US)
    await settle(ledger.settler())
    (settled,) = await ledger.settled()
    assert settled.gpu_ns == 4_500_000_000


async def test_requests_of_one_name_are_billed_each_by_itself(ledger: Ledger) -> None:
    """A caller may give all of its requests one id: what ends meanwhile does not hide what goes on."""
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY))])
    settler = ledger.settler()
    for second in range(1, 5):
        await ledger.events([event("same", "a", T0 + (second - 1) * SECOND_US + 7, 1000)])
        await ledger.until(T0 + second * SECOND_US, [opened("same", "a", T0)])
        await settle(settler)
    await ledger.events([event("same", "a", T0, 9 * SECOND_US // 2)])
    await ledger.until(T0 + 6 * SECOND_US)
    await settle(settler)
    used = [one.gpu_ns for one in await ledger.settled()]
    assert used == [500_000] * 4 + [4_500_000_000 - 4 * 500_000]
    assert settler.late_us == 0


async def test_each_second_is_shown_and_adds_up(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, name, occupant("a", MEMORY // 3)) for name in ("g0", "g1")])
    await ledger.events([event(f"r{number}", "a", T0 + 7 * number, 300_011) for number in range(7)])
    await ledger.until(T0 + 3 * SECOND_US)
    await settle(ledger.settler())
    seconds = await ledger.seconds()
    assert [one.at_unix_s for one in seconds] == [T0 // SECOND_US + number for number in range(3)]
    for one in seconds:
        for gpu in ("g0", "g1"):
            assert sum(row[-1] for row in one.rows if row[0] == gpu) == SECOND_NS


async def test_nothing_is_settled_that_is_not_known(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, "g")])
    await ledger.events([event("r", "a", T0, 1000)])
    settler = ledger.settler()
    await settle(settler)
    assert settler.waits_for == "the controller"
    await ledger.controller(T0 + 9 * SECOND_US)
    await ledger.mark(T0 + 9 * SECOND_US, "quick")
    await ledger.mark(T0 + SECOND_US // 2, "slow")
    ledger.now_us = T0 + 9 * SECOND_US
    await settle(settler)
    assert settler.waits_for == "slow"
    assert await ledger.settled() == []
    await ledger.mark(T0 + 2 * SECOND_US, "slow")
    await settle(settler)
    assert len(await ledger.settled()) == 1
    assert settler.settled_us == T0 + 2 * SECOND_US


async def test_a_worker_that_is_not_heard_of_is_not_waited_for_for_ever(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY))])
    await ledger.mark(T0 + SECOND_US, "gone", [opened("r", "a", T0)])
    await ledger.until(T0 + 2 * SECOND_US)
    settler = ledger.settler()
    await settle(settler)
    assert settler.settled_us == T0 + SECOND_US
    far_us = T0 + int((GIVEN_UP_S + 2) * SECOND_US)
    await ledger.until(far_us)
    await settle(settler)
    assert settler.settled_us == far_us
    assert set(await ledger.redis.hkeys(ledger.keys.usage_watermarks)) == {b"w"}
    # It comes back: its tokens count, and of GPU time what was seen of it.
    await ledger.events([event("r", "a", T0, 5 * SECOND_US, worker="gone")])
    await ledger.events([event("short", "a", T0 + 3 * SECOND_US, SECOND_US, worker="gone")])
    await ledger.until(far_us + SECOND_US)
    await settle(settler)
    assert {one.id: one.gpu_ns for one in await ledger.settled()} == {"r": SECOND_NS, "short": 0}
    assert settler.late_us == SECOND_US
    assert (await ledger.totals())["prompt_tokens"] == 200


async def test_a_try_that_was_lost_counts_where_it_was(ledger: Ledger) -> None:
    """The first replica died; the request went on on another."""
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY // 2), occupant("b", MEMORY // 2))])
    settler = ledger.settler()
    await ledger.until(T0 + SECOND_US, [opened("r", "a", T0)])
    await settle(settler)
    lost = Run(replica="a", from_us=T0, us=SECOND_US * 3 // 2)
    await ledger.until(T0 + 3 * SECOND_US, [opened("r", "b", T0 + 2 * SECOND_US, runs=(lost,))])
    await settle(settler)
    runs = (lost, Run(replica="b", from_us=T0 + 2 * SECOND_US, us=2 * SECOND_US))
    await ledger.events([event("r", "b", T0, 4 * SECOND_US, runs=runs)])
    await ledger.until(T0 + 5 * SECOND_US)
    await settle(settler)
    (settled,) = await ledger.settled()
    assert settled.gpu_ns == SECOND_NS * 3 // 4 + SECOND_NS
    assert settler.late_us == 0


async def test_callers_may_name_their_requests_alike(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY))])
    await ledger.events([event("same", "a", T0, SECOND_US, key=key) for key in ("k1", "k2")])
    await ledger.events([event("same", "a", T0 + SECOND_US, SECOND_US, key="k1")])
    await ledger.until(T0 + 3 * SECOND_US)
    await settle(ledger.settler())
    settled = await ledger.settled()
    assert len(settled) == 3
    assert sum(one.gpu_ns for one in settled) == 2 * SECOND_NS
    assert (await ledger.totals())["requests"] == 3


async def test_prices_are_those_of_when_it_ended(ledger: Ledger) -> None:
    settler = ledger.settler()
    await ledger.until(T0 + SECOND_US)
    await settle(settler)
    dearer = msgspec.structs.replace(HOUSE, price_lists={}, default_price_list="", version=4)
    ledger.now_us = T0 + 2 * SECOND_US
    await ledger.house(dearer)
    await settle(settler)
    await ledger.events([event("before", "a", T0 + SECOND_US, 1000), event("after", "a", T0 + 3 * SECOND_US, 1000)])
    await ledger.until(T0 + 5 * SECOND_US)
    await settle(ledger.settler())
    found = {one.id: (one.price_version, one.cost > 0) for one in await ledger.settled()}
    assert found == {"before": (3, True), "after": (4, False)}


async def test_owners_bear_idle_time_where_the_house_says_so(ledger: Ledger) -> None:
    house = msgspec.structs.replace(HOUSE, idle_charged_to=Bearer.OWNER)
    await ledger.redis.hset(ledger.keys.tenants, "team", encode(TenantRecord(tenant_id="team")))
    await ledger.house(house)
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY // 2))])
    hour_us = (T0 // SECOND_US // 3600 + 1) * 3600 * SECOND_US
    await ledger.until(hour_us + SECOND_US)
    settler = ledger.settler()
    await settle(settler)
    await settle(settler)
    (settled,) = await ledger.settled()
    assert (settled.tenant, settled.endpoint, settled.ended_us) == ("team", RESIDENT, hour_us - 1)
    assert settled.gpu_ns == (hour_us - T0) * 1000 // 2
    assert settled.lines.keys() == {"gpu_second", "gib_second"}
    totals = await ledger.totals()
    assert totals["requests"] == 0
    assert totals["cost"] == settled.cost


async def test_of_two_meters_one_settles(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, "g", occupant("a", MEMORY))])
    await ledger.events([event(f"r{number}", "a", T0 + number, 1000) for number in range(50)])
    await ledger.until(T0 + 2 * SECOND_US)
    said = await asyncio.gather(*(ledger.settler().step() for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, Overtaken) for one in said) == 3
    assert len(await ledger.settled()) == 50
    assert (await ledger.totals())["requests"] == 50


async def test_what_cannot_be_read_is_set_aside(ledger: Ledger) -> None:
    await ledger.redis.xadd(ledger.keys.usage_events, {"e": b"{"})
    await ledger.redis.xadd(ledger.keys.gpu_timeline, {"x": b"?"})
    await ledger.redis.set(ledger.keys.usage_settling, b"nonsense")
    await ledger.redis.set(ledger.keys.usage_prices, b"nonsense")
    await ledger.events([event("r", "a", T0, 1000)])
    await ledger.until(T0 + 2 * SECOND_US)
    await settle(ledger.settler())
    assert [one.id for one in await ledger.settled()] == ["r"]
    for key in (ledger.keys.usage_events, ledger.keys.gpu_timeline):
        assert await ledger.redis.xlen(ledger.keys.set_aside(key)) == 1
        assert await ledger.redis.xlen(key) == 0
    assert await ledger.redis.get(ledger.keys.set_aside(ledger.keys.usage_settling)) == b"nonsense"


async def test_more_than_one_step_can_take(ledger: Ledger) -> None:
    await ledger.events([event(f"r{number}", "a", T0 + number, 1000) for number in range(4500)])
    await ledger.until(T0 + 2 * SECOND_US)
    settler = ledger.settler()
    assert await settler.step()
    assert settler.settled == MOST_AT_ONCE
    await settle(settler)
    assert (await ledger.totals())["requests"] == settler.settled == 4500


async def test_a_start_is_borne_by_who_waited(ledger: Ledger) -> None:
    await ledger.pictures(
        [
            picture(T0, "g", occupant("a", MEMORY, Phase.STARTING)),
            picture(T0 + 3 * SECOND_US, "g", occupant("a", MEMORY)),
        ]
    )
    ready_us = T0 + 3 * SECOND_US
    events = [event(name, "a", ready_us + 500_000, 1000, wake_us=3_000_000) for name in ("r1", "r2")]
    await ledger.events(events)
    settler = ledger.settler()
    await ledger.until(ready_us)
    await settle(settler)
    await ledger.until(ready_us + SECOND_US - 1)
    await settle(settler)
    assert await ledger.settled() == [], "who else waited is not known yet"
    await ledger.until(ready_us + 2 * SECOND_US)
    await settle(ledger.settler())
    assert [one.start_gpu_ns for one in await ledger.settled()] == [1_500_000_000, 1_500_000_000]
    assert (await ledger.totals())["start_gpu_ns"] == (await ledger.gpu_totals())[Use.STARTING] == 3 * SECOND_NS


async def test_a_start_is_held_against_budgets_when_it_is_settled(ledger: Ledger) -> None:
    """The worker that let it in could not know of it: who wakes models again and again would pay for none of it."""
    key = KeyRecord(
        key_id="k", name="k", scopes=("inference",), prefix="", created_unix_s=0.0,
        limits=(parse_limit("money=5/month"), parse_limit("tokens=5/day"), parse_limit("requests=5/1m")),
    )  # fmt: skip
    tenant = TenantRecord(
        tenant_id="t", limits=(parse_limit("gpu_seconds=9/ever"), parse_limit("money=1/day for other*"))
    )
    await ledger.redis.hset(ledger.keys.api_keys, "digest", encode(key))
    await ledger.redis.hset(ledger.keys.tenants, "t", encode(tenant))
    await ledger.house()
    await ledger.pictures(
        [
            picture(T0, "g", occupant("a", MEMORY, Phase.STARTING)),
            picture(T0 + 3 * SECOND_US, "g", occupant("a", MEMORY)),
        ]
    )
    await ledger.events([event("r", "a", T0 + 3 * SECOND_US, 1000, wake_us=3_000_000)])
    await ledger.until(T0 + 9 * SECOND_US)
    await settle(ledger.settler())
    await settle(ledger.settler())
    (settled,) = await ledger.settled()
    assert settled.start_gpu_ns == 3 * SECOND_NS
    placed = [*(Placed("key:k", rule) for rule in key.limits), *(Placed("tenant:t", rule) for rule in tenant.limits)]
    uses = await usage_of(ledger.redis, ledger.keys, placed, ledger.now_us)
    assert [one.used for one in uses] == [settled.lines["start_gpu_second"], 0, 0, 3_000_000, 0]
    lasting = [await ledger.redis.pttl(ledger.keys.limit(one.place, one.rule.name)) for one in placed]
    assert lasting[0] > 0
    assert lasting[3] == -1


class Killed(Exception):
    """Stands for a process that ends."""


KILLS = st.lists(
    st.tuples(st.integers(0, LONGEST_US), st.sampled_from(["no", "before", "after", "two"])), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=40)
@given(worlds(), KILLS, st.randoms(use_true_random=False))
def test_all_sums_agree_whoever_is_killed_when(world: World, kills: list[tuple[int, str]], rng: Random) -> None:
    """Gateways tell of events in any order after they ended, and of what runs; meters are killed before and after they
    write, and a second one settles what the first one has read."""
    asyncio.run(play(_servers[0], world, sorted(kills), rng))


_servers: list[str] = []
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _server(redis_server: EmbeddedRedis) -> None:
    _servers[:] = [redis_server.url]


async def play(url: str, world: World, kills: list[tuple[int, str]], rng: Random) -> None:
    async with connect_async(url) as redis:
        ledger = Ledger(redis, Keys(f"kills{next(_numbers)}"))
        await ledger.house()
        rest = [
            event(
                one.account, one.replica, one.from_us, one.to_us - one.from_us, tenant=one.who.tenant,
                wake_us=int(one.waited),
            )
            for one in world.stays
        ]  # fmt: skip
        pictures = list(world.pictures)
        second, settler = ledger.settler(), ledger.settler()
        for after_us, kill in kills:
            until_us = T0 + after_us
            pictures, rest = await tell(ledger, pictures, rest, until_us, rng)
            if kill == "two":
                await asyncio.gather(second.step(), settler.step(), return_exceptions=True)
            elif kill != "no":
                await step_and_die(settler, kill)
                settler = ledger.settler()
            await settle_somehow(settler)
        last_us = max([world.until_us, *(one.ended_us for one in rest)]) + 3 * SECOND_US
        await tell(ledger, pictures, rest, last_us, rng)
        await settle_somehow(settler)
        await check(ledger, world)


async def tell(
    ledger: Ledger, pictures: list[GpuPicture], events: list[UsageEvent], until_us: int, rng: Random
) -> tuple[list[GpuPicture], list[UsageEvent]]:
    """All that there was until then; what is left."""
    await ledger.pictures([one for one in pictures if one.at_us < until_us])
    told = [one for one in events if one.ended_us <= until_us]
    await ledger.events(rng.sample(told, len(told)))
    left = [one for one in events if one.ended_us > until_us]
    running = [(one, one.runs[0]) for one in left if one.runs[0].from_us < until_us]
    opens = [
        OpenRequest(
            id=one.id, key_id=one.key_id, project=one.project, tenant=one.tenant, model=one.model,
            replica=run.replica, from_us=run.from_us, wake_us=one.wake_us,
        )
        for one, run in running
    ]  # fmt: skip
    await ledger.until(until_us, opens)
    return [one for one in pictures if one.at_us >= until_us], left


async def step_and_die(settler: Settler, when: str) -> None:
    books: Books = settler._books
    write = books.write

    async def dying(*args: Any) -> None:
        if when == "after":
            await write(*args)
        raise Killed

    books.write = dying  # type: ignore[method-assign, assignment]
    with contextlib.suppress(Killed):
        await settle(settler)


async def settle_somehow(settler: Settler) -> None:
    try:
        await settle(settler)
    except Overtaken:
        await settle(settler)


async def check(ledger: Ledger, world: World) -> None:
    settled = await ledger.settled()
    assert sorted(one.id for one in settled) == sorted(one.account for one in world.stays)
    for bucket in ("hour", "day"):
        totals = await ledger.totals(bucket)
        assert totals["requests"] == len(world.stays)
        for metric in METRICS[2:]:
            if metric not in ("run_us",):
                assert totals[metric] == sum(getattr(one, metric) for one in settled), metric
    gpu = await ledger.gpu_totals()
    assert gpu[Use.BUSY] == sum(one.gpu_ns for one in settled)
    wall = 0
    ends_us = ledger.now_us // SECOND_US * SECOND_US
    for name in {one.gpu for one in world.pictures}:
        own = [one for one in world.pictures if one.gpu == name]
        ends = [*(one.at_us for one in own[1:]), ends_us]
        wall += sum((end - one.at_us) * 1000 for one, end in zip(own, ends, strict=True) if one.present)
    assert sum(gpu.values()) == wall == sum((await ledger.gpu_totals("day")).values())
    assert wall == sum(row[-1] for one in await ledger.seconds() for row in one.rows)


async def test_a_clock_that_was_set_makes_nobody_be_given_up(ledger: Ledger) -> None:
    """A worker that began before that goes by another time than the meter, for a long while."""
    await ledger.pictures([picture(T0, "g")])
    settler = ledger.settler()
    for second in range(1, 8):
        await ledger.controller(T0 + 3600 * SECOND_US + second * 100 * SECOND_US)
        await ledger.mark(T0 + second * 100 * SECOND_US, "behind")
        ledger.now_us = T0 + 3600 * SECOND_US + second * 100 * SECOND_US
        await settle(settler)
        assert settler.settled_us == T0 + second * 100 * SECOND_US


async def test_a_day_of_pictures_is_settled_bit_by_bit(ledger: Ledger) -> None:
    await ledger.pictures([picture(T0, "g")])
    await ledger.until(T0 + 4000 * SECOND_US)
    settler = ledger.settler()
    assert await settler.step()
    assert settler.settled_us == T0 + 600 * SECOND_US
    await settle(settler)
    assert await ledger.gpu_totals() == {Use.FREE: 4000 * SECOND_NS}
