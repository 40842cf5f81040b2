"""The copy of settled events in PostgreSQL: a real server, a real Redis, and what happens when either goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from redis.asyncio import Redis

from gateway.billing import sink as sinks
from gateway.billing import sink_schema
from gateway.billing.books import SETTLED_MAX
from gateway.billing.sink import Sink, SinkStatus, sink_from
from gateway.billing.sink_line import URL_ENV, Line
from models.store.client import connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.errors import StoreSettingError
from models.store.keys import Keys
from models.store.usage import Run, SettledEvent
from tests.gateway.billing.postgres_server import PostgresServer
from tests.gateway.world import until, until_async

pytestmark = pytest.mark.anyio
PERSEVERING_S = 0.05


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres(server: PostgresServer) -> PostgresServer:
    """Running, and empty."""
    ask(server, f"DROP SCHEMA IF EXISTS {sink_schema.SCHEMA} CASCADE")
    return server


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect_async(redis_server.url)
    yield client
    await client.aclose()


MakeSink = Callable[[], Sink]


@pytest.fixture
async def make_sink(redis: Redis, keys: Keys, postgres: PostgresServer) -> AsyncIterator[MakeSink]:
    made: list[Sink] = []

    def make() -> Sink:
        made.append(Sink(redis, keys, Line.to(postgres.url), lambda: 1_000.0))
        return made[-1]

    yield make
    for sink in made:
        await sink.line.engine.dispose()


def ask(server: PostgresServer, statement: str) -> list[Any]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def event(number: int, **changes: Any) -> SettledEvent:
    given: dict[str, Any] = {
        "id": f"req-{number}",
        "started_us": 1_763_800_000_000_000 + number,
        "ended_us": 1_763_800_001_500_000 + number,
        "key_id": "key_1",
        "project": "default",
        "tenant": "acme",
        "model": "tiny-llama",
        "endpoint": "chat.completions",
        "status": 200,
        "prompt_tokens": 7,
        "completion_tokens": 11,
        "runs": (Run(replica="r-1", from_us=5, us=1_400_000), Run(replica="r-2", from_us=9, us=50_000)),
        "lines": {"input_token": 3, "output_token": 1_000_000_001},
        "cost": 1_000_000_004,
        "currency": "USD",
        "price_version": 3,
    }
    return SettledEvent(**{**given, **changes})


async def settle(redis: Redis, keys: Keys, *events: SettledEvent | bytes) -> list[str]:
    ids = []
    for each in events:
        raw = each if isinstance(each, bytes) else encode(each)
        position: Any = await redis.xadd(keys.usage_settled, {"e": raw})
        ids.append(position.decode())
    return ids


def count(server: PostgresServer) -> int:
    return int(ask(server, f"SELECT count(*) FROM {sink_schema.SCHEMA}.usage_events")[0][0])


async def test_a_row_says_what_the_event_said_with_money_exact(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    await settle(redis, keys, event(1))
    assert await make_sink().copy() == 1
    columns = "id, tenant, status, prompt_tokens, run_us, cost, lines, runs, extract(epoch from started_at), worker"
    (found,) = ask(postgres, f"SELECT {columns} FROM roundhouse.usage_events")
    assert found[:5] == ("req-1", "acme", 200, 7, 1_450_000)
    assert found[5] == Decimal("1.000000004")
    assert found[6] == {"input_token": "0.000000003", "output_token": "1.000000001"}
    assert [run["replica"] for run in found[7]] == ["r-1", "r-2"]
    assert found[8] == Decimal("1763800000.000001")


async def test_the_tables_have_the_columns_that_are_written(postgres: PostgresServer, make_sink: MakeSink) -> None:
    await make_sink().copy()
    for table in (sink_schema.events, sink_schema.positions, sink_schema.gaps):
        there = ask(
            postgres,
            "SELECT column_name FROM information_schema.columns "
            f"WHERE table_schema = 'roundhouse' AND table_name = '{table.name}'",
        )
        assert {name for (name,) in there} >= {column.name for column in table.columns}
    assert set(SettledEvent.__struct_fields__) <= {column.name for column in sink_schema.events.columns}


async def test_it_goes_on_where_it_was_and_a_second_copy_adds_nothing(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "EVENTS_AT_ONCE", 4)
    await settle(redis, keys, *(event(number) for number in range(10)))
    first = make_sink()
    assert [await first.copy() for _ in range(2)] == [4, 4]
    assert count(postgres) == 8
    next_one = make_sink()  # as after kill -9
    assert await next_one.copy() == 2
    assert await next_one.copy() == 0
    ask(postgres, "UPDATE roundhouse.sink_positions SET position = '0-0'")
    again = make_sink()
    assert sum([await again.copy() for _ in range(3)]) == 10
    assert count(postgres) == 10


async def test_callers_may_name_their_requests_as_others_do(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    await settle(redis, keys, event(1), event(1, key_id="key_2", tenant="globex"), event(1))
    assert await make_sink().copy() == 3
    assert count(postgres) == 2


async def test_two_that_copy_at_once_write_each_event_once(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    await settle(redis, keys, *(event(number) for number in range(200)))
    await asyncio.gather(*(make_sink().copy() for _ in range(3)))
    assert count(postgres) == 200
    assert ask(postgres, "SELECT version FROM roundhouse.schema_version") == [(1,)]


async def test_an_outage_is_waited_out_and_nothing_is_missing(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "LOOK_S", PERSEVERING_S)
    monkeypatch.setattr(sinks, "LONGEST_PAUSE_S", PERSEVERING_S)
    sink = make_sink()
    running = asyncio.create_task(sink.run())
    try:
        await settle(redis, keys, *(event(number) for number in range(5)))
        await until_async(lambda: has(postgres, 5))
        postgres.kill()
        await settle(redis, keys, *(event(number) for number in range(5, 25)))
        down = await status(redis, keys, lambda found: bool(found.problem))
        assert "onnect" in down.problem
        assert "a-secret" not in down.problem
        await until(lambda: sink.kept() == sinks.KEPT_WHILE_DOWN)
        postgres.start()
        await until_async(lambda: has(postgres, 25))
        well = await status(redis, keys, lambda found: not found.problem)
        await until(lambda: sink.kept() == SETTLED_MAX)
        assert (well.behind_s, well.gaps) == (0, 0)
    finally:
        await ended(running)


async def test_another_meter_may_have_copied_meanwhile(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "LOOK_S", PERSEVERING_S)
    first = make_sink()
    await settle(redis, keys, event(1))
    assert await first.copy() == 1  # then it loses its office
    ids = await settle(redis, keys, event(2), event(3))
    assert await make_sink().copy() == 2
    await redis.xtrim(keys.usage_settled, minid=ids[1], approximate=False)
    running = asyncio.create_task(first.run())
    try:
        await settle(redis, keys, event(4))
        await until_async(lambda: has(postgres, 4))
        assert first.gaps == 0
    finally:
        await ended(running)


async def test_how_far_it_is_behind_is_told_also_while_nobody_answers(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "LOOK_S", PERSEVERING_S)
    monkeypatch.setattr(sinks, "LONGEST_PAUSE_S", PERSEVERING_S)
    await redis.xadd(keys.usage_settled, {"e": encode(event(1))}, id="1000000-0")
    running = asyncio.create_task(make_sink().run())
    try:
        await until_async(lambda: has(postgres, 1))
        postgres.kill()
        await redis.xadd(keys.usage_settled, {"e": encode(event(2))}, id="1090500-0")
        behind = await status(redis, keys, lambda found: bool(found.behind_s))
        assert (behind.behind_s, behind.position) == (90.5, "1000000-0")
        assert behind.problem
    finally:
        await ended(running)
        postgres.start()


async def test_a_silent_database_holds_up_nothing_not_even_the_end(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "LOOK_S", PERSEVERING_S)
    monkeypatch.setattr(sinks, "LONGEST_PAUSE_S", PERSEVERING_S)
    sink = make_sink()
    running = asyncio.create_task(sink.run())
    await settle(redis, keys, event(1))
    await until_async(lambda: has(postgres, 1))
    monkeypatch.setattr(sinks, "ANSWER_TIMEOUT_S", 0.3)
    postgres.pause()
    try:
        await settle(redis, keys, event(2))
        silent = await status(redis, keys, lambda found: bool(found.problem))
        assert silent.problem == "PostgreSQL does not answer"
        postgres.go_on()
        monkeypatch.setattr(sinks, "ANSWER_TIMEOUT_S", 15.0)
        await until_async(lambda: has(postgres, 2))
        monkeypatch.setattr(sinks, "ANSWER_TIMEOUT_S", 0.3)
        postgres.pause()
        await settle(redis, keys, event(3))
        await asyncio.wait_for(ended(running), 20)  # the meter's end is not held up by it
    finally:
        postgres.go_on()
        await ended(running)
    assert await make_sink().copy() == 1


async def test_what_went_from_redis_before_it_was_copied_is_said(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    first = await settle(redis, keys, event(1))
    assert await make_sink().copy() == 1
    ids = await settle(redis, keys, *(event(number) for number in range(2, 8)))
    await redis.xtrim(keys.usage_settled, minid=ids[3], approximate=False)
    late = make_sink()
    assert await late.copy() == 3
    assert late.gaps == 1
    assert ask(postgres, "SELECT after_position, before_position FROM roundhouse.sink_gaps") == [(first[0], ids[3])]
    assert await late.copy() == 0
    assert late.gaps == 1


async def test_another_redis_whose_clock_is_behind_is_copied_from_its_beginning(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    await settle(redis, keys, event(1))
    assert await make_sink().copy() == 1
    await redis.delete(keys.usage_settled)
    waiting = make_sink()
    assert await waiting.copy() == 0
    assert waiting.gaps == 0, "an empty Redis has dropped nothing yet"
    await redis.xadd(keys.usage_settled, {"e": encode(event(2))}, id="5-1")
    assert await waiting.copy() + await waiting.copy() == 1
    assert waiting.gaps == 1
    assert count(postgres) == 2


async def test_what_cannot_be_read_or_taken_does_not_keep_the_rest_back(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    await settle(redis, keys, event(1), b"{", event(2, code="a\0b"), event(3, prompt_tokens=2**63 - 1, status=2**40))
    await settle(redis, keys, event(4))
    assert await make_sink().copy() == 5
    assert ask(postgres, "SELECT id, code FROM roundhouse.usage_events ORDER BY id") == [
        ("req-1", ""), ("req-2", "a\ufffdb"), ("req-4", ""),
    ]  # fmt: skip


async def test_a_database_of_an_older_version_is_brought_up_to_date_with_its_rows(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(redis, keys, event(1))
    await make_sink().copy()
    more = "ALTER TABLE roundhouse.usage_events ADD COLUMN region text NOT NULL DEFAULT ''; SELECT 1"
    monkeypatch.setattr(sink_schema, "MIGRATIONS", (*sink_schema.MIGRATIONS, more))
    await settle(redis, keys, event(2))
    assert await make_sink().copy() == 1
    assert ask(postgres, "SELECT id, region FROM roundhouse.usage_events ORDER BY id") == [("req-1", ""), ("req-2", "")]
    assert ask(postgres, "SELECT max(version) FROM roundhouse.schema_version") == [(2,)]


async def test_a_database_of_a_newer_version_is_left_alone(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    await make_sink().copy()
    ask(postgres, "INSERT INTO roundhouse.schema_version VALUES (99)")
    with pytest.raises(sinks.SinkRefused, match=r"version 99.*upgrade"):
        await make_sink().copy()


async def test_who_may_not_make_schemas_can_use_one_that_was_made_for_it(
    redis: Redis, keys: Keys, postgres: PostgresServer
) -> None:
    ask(postgres, "DROP ROLE IF EXISTS meter")
    ask(postgres, "CREATE ROLE meter LOGIN")
    ask(postgres, "CREATE SCHEMA roundhouse AUTHORIZATION meter")
    sink = Sink(redis, keys, Line.to(postgres.url.replace("roundhouse:", "meter:")), lambda: 0.0)
    await settle(redis, keys, event(1))
    try:
        assert await sink.copy() == 1
    finally:
        await sink.line.engine.dispose()


async def test_two_installations_share_a_database(
    redis: Redis, keys: Keys, postgres: PostgresServer, make_sink: MakeSink
) -> None:
    other = Keys(f"{keys.prefix}-other")
    await settle(redis, keys, event(1), event(2))
    await settle(redis, other, event(3))
    assert await make_sink().copy() == 2
    neighbour = Sink(redis, other, Line.to(postgres.url), lambda: 0.0)
    try:
        assert await neighbour.copy() == 1
    finally:
        await neighbour.line.engine.dispose()
    assert count(postgres) == 3


@pytest.mark.parametrize(
    "url", ["mysql://u:hidden@h/db", "postgresql://u:hidden@h", "no url", "postgresql://u:hidden@h:port/db"]
)
def test_a_wrong_url_is_said_without_its_password(url: str) -> None:
    with pytest.raises(StoreSettingError, match="ROUNDHOUSE_POSTGRES_URL") as refused:
        Line.to(url)
    assert "hidden" not in str(refused.value)


async def test_there_is_no_sink_unless_a_database_is_named(redis: Redis, keys: Keys) -> None:
    assert sink_from(redis, keys, lambda: 0.0, {}) is None
    named = sink_from(redis, keys, lambda: 0.0, {URL_ENV: "postgresql://u:p@127.0.0.1/db"})
    assert named is not None
    assert "p@" not in repr(named)
    assert json.dumps(str(named.line.engine.url)).count("***") == 1


async def has(server: PostgresServer, wanted: int) -> bool:
    try:
        return await asyncio.to_thread(count, server) == wanted
    except psycopg.errors.UndefinedTable:
        return False


async def status(redis: Redis, keys: Keys, holds: Callable[[SinkStatus], bool]) -> SinkStatus:
    async def look() -> SinkStatus | None:
        raw = await redis.get(keys.usage_sink)
        found = None if raw is None else msgspec.json.decode(raw, type=SinkStatus)
        return found if found is not None and holds(found) else None

    found = await until_async(look)
    assert isinstance(found, SinkStatus)
    return found


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
