"""Whatever moment a worker is killed at, each line's result is in the files exactly once, none is worked out twice."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.batches import states
from gateway.batches.run import Run
from gateway.batches.store import BatchStore
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.batches.bench import OWNER, Bench, Fuse

_numbers = itertools.count(1)
fuses = st.builds(Fuse, left=st.integers(min_value=0, max_value=40), torn=st.floats(min_value=0, max_value=1))


def bench_of(redis_server: EmbeddedRedis, refused: frozenset[int] = frozenset()) -> Bench:
    root = Path(tempfile.mkdtemp(prefix="rh-batch-"))
    return Bench(redis_server.url, Keys(f"resuming{next(_numbers)}"), root, refused)


@settings(max_examples=120, deadline=None)
@given(
    lines=st.integers(min_value=1, max_value=9),
    refused=st.frozensets(st.integers(min_value=1, max_value=9), max_size=3),
    lives=st.lists(fuses, max_size=6),
)
def test_killed_at_any_moment(
    redis_server: EmbeddedRedis, lines: int, refused: frozenset[int], lives: list[Fuse]
) -> None:
    bench = bench_of(redis_server, refused)

    async def story() -> None:
        await bench.order(lines)
        for fuse in lives:
            await bench.live(fuse)
        ended = await bench.live(Fuse())
        assert ended is not None
        assert ended.status == "completed"
        counts = ended.counts
        failed = len(refused & set(range(1, lines + 1)))
        assert (counts.total, counts.completed, counts.failed) == (lines, lines - failed, failed)

    try:
        asyncio.run(story())
        output, errors = bench.files()
        names = Counter(entry["custom_id"] for entry in [*output, *errors])
        assert names == Counter(f"r-{number}" for number in range(1, lines + 1)), "each exactly once"
        assert all(entry["response"]["status_code"] == 400 for entry in errors)
        numbers = [entry["response"]["body"]["n"] for entry in output]
        assert numbers == sorted(set(range(1, lines + 1)) - refused), "in the order of the input"
        assert bench.asked_again == set(), "what is finished is not asked again"
    finally:
        shutil.rmtree(bench.root)


@settings(max_examples=40, deadline=None)
@example(lives=[Fuse(left=9, torn=1.0)], cancelled_after=1, expires=False)
@given(
    lives=st.lists(fuses, min_size=1, max_size=4),
    cancelled_after=st.integers(min_value=0, max_value=3),
    expires=st.booleans(),
)
def test_cancelled_or_expired_between_kills(
    redis_server: EmbeddedRedis, lives: list[Fuse], cancelled_after: int, expires: bool
) -> None:
    """What is finished is in the files once; what is not is in none, or said to have expired."""
    bench, lines = bench_of(redis_server), 8

    async def story() -> str:
        await bench.order(lines)
        for number, fuse in enumerate([*lives, Fuse()]):
            if number == min(cancelled_after, len(lives)):
                await end_early(bench, expires)
            ended = await bench.live(fuse)
        assert ended is not None
        return ended.status

    try:
        status = asyncio.run(story())
        output, errors = bench.files()
        names = Counter(entry["custom_id"] for entry in [*output, *errors])
        done = {f"r-{number}" for number in bench.finished}
        assert set(names.values()) <= {1}
        if status == "expired":
            assert set(names) == {f"r-{number}" for number in range(1, lines + 1)}
            assert all(entry["error"]["code"] == "batch_expired" for entry in errors)
        elif status == "cancelled":
            assert set(names) == done
        else:
            assert status == "completed", "it was over before"
            assert len(names) == lines
        assert bench.asked_again == set()
    finally:
        shutil.rmtree(bench.root)


async def end_early(bench: Bench, expires: bool) -> None:
    assert bench.record is not None
    if expires:
        bench.now_s += 2000
        return
    client = connect_async(bench.url)
    store = BatchStore(client, bench.keys, bench.root / "batches", bench._clock)
    await store.change(OWNER, bench.record.id, lambda record: states.cancelling(record, bench.now_s))
    await client.aclose()


def test_two_that_work_on_it_at_the_same_time(redis_server: EmbeddedRedis) -> None:
    """One was stopped, its lease ended, another took over, and the first goes on: nothing is in the files twice."""
    bench, lines = bench_of(redis_server), 30

    async def work(token: str) -> str:
        client = connect_async(bench.url)
        assert bench.record is not None
        try:
            tools = replace(bench.tools(client, Fuse()), token=token)
            record = await tools.store.find(OWNER, bench.record.id)
            assert record is not None
            return (await Run(record, tools).work()).status
        except OSError:
            return "the other had cleared up already"
        finally:
            await client.aclose()

    async def story() -> tuple[str, str]:
        await bench.order(lines)
        return await asyncio.gather(work("one"), work("other"))

    try:
        assert "completed" in asyncio.run(story())
        output, errors = bench.files()
        assert [entry["custom_id"] for entry in output] == [f"r-{number}" for number in range(1, lines + 1)]
        assert errors == []
    finally:
        shutil.rmtree(bench.root)
