"""Batches with the official client: a file of requests in, a file of answers out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from openai.types import Batch

from gateway.batches.store import BatchStore
from gateway.clock import Clock
from gateway.kept import KeptLimits
from gateway.settings import Limits
from models.home import Home
from models.store.codec import encode
from tests.gateway.kept_world import FAST, KeptThread, KeptWorld
from tests.gateway.world import until_async

pytestmark = pytest.mark.anyio
CHAT: Any = "/v1/chat/completions"


def line(number: int, model: str = "m", url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"line {number}"}]} | body
    return {"custom_id": f"r-{number}", "method": "POST", "url": url, "body": body}


def jsonl(lines: list[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture
async def world(kept_world: KeptWorld) -> KeptWorld:
    await kept_world.talking()
    await kept_world.begin()
    await kept_world.route(kept_world.model("m", "m-1"))
    return kept_world


async def order(api: openai.AsyncOpenAI, lines: list[Any], **fields: Any) -> Batch:
    file = await api.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    fields = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file.id} | fields
    return await api.batches.create(**fields)


async def until_ended(api: openai.AsyncOpenAI, batch_id: str) -> Batch:
    async def look() -> Batch | None:
        batch = await api.batches.retrieve(batch_id)
        ended = batch.status in ("completed", "failed", "expired", "cancelled")
        return batch if ended else None

    found = await until_async(look)
    assert isinstance(found, Batch)
    return found


async def lines_of(api: openai.AsyncOpenAI, file_id: str | None) -> list[Any]:
    if file_id is None:
        return []
    return [json.loads(text) for text in (await (await api.files.content(file_id)).aread()).splitlines()]


async def test_from_a_file_of_requests_to_a_file_of_answers(world: KeptWorld) -> None:
    async with world.api() as api:
        made = await order(api, [line(number) for number in range(20)], metadata={"for": "test"})
        assert (made.status, made.object, made.metadata) == ("validating", "batch", {"for": "test"})
        assert made.expires_at == made.created_at + 86_400
        done = await until_ended(api, made.id)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert done.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
        assert (done.error_file_id, done.errors, done.model) == (None, None, "m")
        assert None not in (done.in_progress_at, done.finalizing_at, done.completed_at)
        output = await lines_of(api, done.output_file_id)
        assert [entry["custom_id"] for entry in output] == [f"r-{number}" for number in range(20)], "in their order"
        assert {entry["response"]["status_code"] for entry in output} == {200}
        assert output[0]["response"]["body"]["choices"][0]["message"]["content"] == "one two three"
        assert len({entry["response"]["request_id"] for entry in output}) == 20
        file = await api.files.retrieve(done.output_file_id or "")
        assert (file.purpose, file.filename) == ("batch_output", f"{made.id}_output.jsonl")
        assert [batch.id async for batch in api.batches.list()] == [made.id]
    assert not (world.home.root / "batches" / made.id).exists(), "nothing but its files is left of it"


async def test_what_fails_is_in_the_error_file(world: KeptWorld) -> None:
    refusal = {"error": {"message": "temperature must be at most 2.", "type": "x", "param": "t", "code": 400}}
    lines = [
        line(0),
        line(1, fake={"do": "fail", "status": 400, "body": refusal}),
        line(2, model="nobody"),
        line(3, fake={"do": "fail", "status": 500, "body": "oh"}),
        line(4, n=100_000),
    ]
    async with world.api() as api:
        done = await until_ended(api, (await order(api, lines)).id)
        assert (done.status, done.model) == ("completed", None)
        assert done.request_counts is not None
        assert (done.request_counts.completed, done.request_counts.failed) == (1, 4)
        assert [entry["custom_id"] for entry in await lines_of(api, done.output_file_id)] == ["r-0"]
        failed = {entry["custom_id"]: entry["response"] for entry in await lines_of(api, done.error_file_id)}
    assert {name: answer["status_code"] for name, answer in failed.items()} == {
        "r-1": 400, "r-2": 404, "r-3": 500, "r-4": 400
    }  # fmt: skip
    assert failed["r-2"]["body"]["error"]["code"] == "model_not_found"
    assert sum("line 3" in seen.body.decode() for seen in world.engines["m-1"].seen) == 3, "it was tried again"


async def test_other_endpoints(world: KeptWorld) -> None:
    async with world.api() as api:
        embeddings = [line(number, url="/v1/embeddings", input="x") for number in range(3)]
        done = await until_ended(api, (await order(api, embeddings, endpoint="/v1/embeddings")).id)
        output = await lines_of(api, done.output_file_id)
        assert [entry["response"]["body"]["data"][0]["embedding"] for entry in output] == [[0.5, -0.5]] * 3
        responses = [line(number, url="/v1/responses", input=f"say {number}") for number in range(3)]
        done = await until_ended(api, (await order(api, responses, endpoint="/v1/responses")).id)
        output = await lines_of(api, done.output_file_id)
        kept = await api.responses.retrieve(output[2]["response"]["body"]["id"])
        assert kept.output_text == "1: say 2", "responses of a batch are kept like all others"


@pytest.mark.parametrize(
    ("lines", "code", "at"),
    [
        ([line(0), "no object"], "invalid_json_line", 2),
        ([line(0), line(0)], "duplicate_custom_id", 2),
        ([line(0, url="/v1/embeddings")], "mismatched_endpoint", 1),
        ([line(0) | {"method": "GET"}], "invalid_method", 1),
        ([line(0) | {"custom_id": ""}], "missing_required_parameter", 1),
        ([line(0) | {"body": {"messages": []}}], "missing_required_parameter", 1),
        ([line(0) | {"body": [1]}], "invalid_json_line", 1),
        ([line(0, stream=True)], "invalid_request", 1),
    ],
)
async def test_a_file_with_a_wrong_line_fails_as_a_whole(
    world: KeptWorld, lines: list[Any], code: str, at: int
) -> None:
    async with world.api() as api:
        done = await until_ended(api, (await order(api, lines)).id)
    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    assert [(error.code, error.line) for error in done.errors.data] == [(code, at)]
    assert world.engines["m-1"].seen == []


async def test_a_file_without_a_request(world: KeptWorld) -> None:
    async with world.api() as api:
        file = await api.files.create(file=b"\n\n", purpose="batch")
        made = await api.batches.create(endpoint=CHAT, completion_window="24h", input_file_id=file.id)
        done = await until_ended(api, made.id)
    assert done.errors is not None
    assert done.errors.data is not None
    assert done.errors.data[0].code == "empty_file"


async def test_orders_that_are_wrong(world: KeptWorld) -> None:
    async with world.api() as api:
        picture = await api.files.create(file=b"x", purpose="vision")
        for fields, status, param in (
            ({"input_file_id": "file-nobody"}, 404, "id"),
            ({"input_file_id": picture.id}, 400, "input_file_id"),
            ({"endpoint": "/v1/nonsense"}, 400, "endpoint"),
            ({"endpoint": "/v1/audio/speech"}, 400, "endpoint"),
            ({"completion_window": "soon"}, 400, "completion_window"),
            ({"completion_window": "15d"}, 400, "completion_window"),
            ({"metadata": {"a": 1}}, 400, "metadata.a"),
            ({"extra_body": {"surprise": 1}}, 400, "surprise"),
        ):
            with pytest.raises(openai.APIStatusError) as refused:
                await order(api, [line(0)], **fields)
            error = refused.value.body
            assert isinstance(error, dict)
            assert (refused.value.status_code, error["param"]) == (status, param)
        assert [batch async for batch in api.batches.list()] == []


async def test_a_key_sees_its_own_only(world: KeptWorld) -> None:
    other = await world.make_key("other", "inference")
    async with world.api() as api, world.api(other) as theirs:
        made = await order(api, [line(0)])
        for call in (theirs.batches.retrieve(made.id), theirs.batches.cancel(made.id)):
            with pytest.raises(openai.NotFoundError):
                await call
        with pytest.raises(openai.NotFoundError):
            await theirs.batches.create(endpoint=CHAT, completion_window="24h", input_file_id=made.input_file_id)
        assert [batch async for batch in theirs.batches.list()] == []
        done = await until_ended(api, made.id)
        with pytest.raises(openai.NotFoundError):
            await theirs.files.content(done.output_file_id or "")


async def test_cancelling_keeps_what_is_done(world: KeptWorld) -> None:
    engine = world.engines["m-1"]
    async with world.api() as api:
        made = await order(api, [line(0), line(1), line(2, fake={"do": "hang"})])

        async def two_are_done() -> bool:
            counts = (await api.batches.retrieve(made.id)).request_counts
            return counts is not None and counts.completed == 2

        await until_async(two_are_done)
        cancelling = await api.batches.cancel(made.id)
        assert cancelling.status in ("cancelling", "cancelled")
        done = await until_ended(api, made.id)
        assert done.status == "cancelled"
        assert done.cancelled_at
        output = await lines_of(api, done.output_file_id)
        assert [entry["custom_id"] for entry in output] == ["r-0", "r-1"]
        assert done.error_file_id is None
        assert (await api.batches.cancel(made.id)).status == "cancelled"
        await until_async(lambda: _is(engine.open == 0))
        finished = await until_ended(api, (await order(api, [line(0)])).id)
        with pytest.raises(openai.ConflictError):
            await api.batches.cancel(finished.id)


async def test_when_its_time_is_over(world: KeptWorld) -> None:
    async with world.api() as api:
        made = await order(api, [line(0), line(1, fake={"do": "hang"})], completion_window="1s")
        done = await until_ended(api, made.id)
        assert done.status == "expired"
        assert [entry["custom_id"] for entry in await lines_of(api, done.output_file_id)] == ["r-0"]
        errors = await lines_of(api, done.error_file_id)
    assert [(entry["custom_id"], entry["response"], entry["error"]["code"]) for entry in errors] == [
        ("r-1", None, "batch_expired")
    ]


async def test_a_revoked_key_asks_no_more(world: KeptWorld) -> None:
    mine = await world.make_key("mine", "inference")
    engine = world.engines["m-1"]
    async with world.api(mine) as api:
        made = await order(api, [line(0, fake={"do": "hang"})])
    await until_async(lambda: _is(engine.open == 1))
    keys: Any = await world.redis.hgetall(world.keys.api_keys)
    for digest, raw in keys.items():
        record = json.loads(raw)
        if record["name"] == "mine":
            await world.redis.hset(world.keys.api_keys, digest, encode(record | {"revoked_unix_s": 1.0}))
    await until_async(lambda: _is(engine.open == 0))
    owner = next(json.loads(raw)["key_id"] for raw in keys.values() if json.loads(raw)["name"] == "mine")

    async def failed() -> bool:
        raw: Any = await world.redis.hget(world.keys.kept("batches", owner), made.id)
        record = json.loads(raw)
        return bool(record["status"] == "failed" and record["errors"][0]["code"] == "key_revoked")

    await until_async(failed)


async def test_deleting_the_input_does_not_hurt(world: KeptWorld) -> None:
    async with world.api() as api:
        made = await order(api, [line(number) for number in range(5)])
        await api.files.delete(made.input_file_id)
        assert (await until_ended(api, made.id)).status == "completed"


async def test_whoever_waits_goes_first(kept_world: KeptWorld) -> None:
    """Of four places one is left free, and a batch takes none while a caller waits."""
    engine = await kept_world.talking()
    await kept_world.begin()
    route = kept_world.model("m", "m-1")
    four = tuple(_with_slots(replica, 4) for replica in route.replicas)
    await kept_world.route(_with_replicas(route, four))
    async with kept_world.api() as api:
        made = await order(api, [line(number, fake={"do": "hang"}) for number in range(10)], completion_window="3s")
        await until_async(lambda: _is(engine.open >= 3))
        for _ in range(10):
            answer = await api.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            assert answer.choices[0].message.content == "one two three"
        assert engine.open == 3
        await api.batches.cancel(made.id)
        await until_ended(api, made.id)


async def test_it_waits_for_a_model_that_starts(kept_world: KeptWorld) -> None:
    await kept_world.talking()
    await kept_world.begin(limits=Limits(hold_timeout_s=0.2))
    await kept_world.route(kept_world.model("m"))
    async with kept_world.api() as api:
        made = await order(api, [line(number) for number in range(3)])
        await kept_world.until_report(lambda report: "m" in report.models and report.models["m"].arrived > 0)
        await asyncio.sleep(0.5)  # longer than a request is held
        await kept_world.route(kept_world.model("m", "m-1"))
        assert (await until_ended(api, made.id)).status == "completed"


async def test_one_worker_of_several_does_it_and_another_goes_on(kept_world: KeptWorld) -> None:
    engine = await kept_world.talking()
    workers = [await kept_world.begin(KeptLimits(pace=FAST)) for _ in range(2)]
    await kept_world.route(kept_world.model("m", "m-1"))
    async with kept_world.api(worker=workers[1]) as api:
        made = await order(api, [line(number, fake={"do": "wait"}) for number in range(6)])
        await until_async(lambda: _is(engine.open > 0))
    ending = asyncio.create_task(kept_world.end(_the_one_with_the_lease(workers)))
    await until_async(lambda: _is(ending.done()))
    engine.go_on.set()
    async with kept_world.api() as api:
        done = await until_ended(api, made.id)
        assert done.status == "completed"
        output = await lines_of(api, done.output_file_id)
    assert [entry["custom_id"] for entry in output] == [f"r-{number}" for number in range(6)]


async def test_a_worker_with_another_disk_leaves_it_alone(world: KeptWorld, tmp_path: Path) -> None:
    """Two machines, one Redis: what one has on its disk is no business of the other's."""
    world.elsewhere = Home(tmp_path)
    other = await world.begin()
    async with world.api() as api, world.api(worker=other) as theirs:
        made = [await order(each, [line(number) for number in range(5)]) for each in (api, theirs)]
        for batch in made:
            assert (await until_ended(api, batch.id)).status == "completed"
        with pytest.raises(openai.NotFoundError, match="not on this machine"):
            await theirs.files.content(made[0].input_file_id)
    assert other.kept.batches.place != world.workers[0].kept.batches.place
    again = BatchStore(world.redis, world.keys, tmp_path / "batches", Clock())
    assert again.place == other.kept.batches.place


def _the_one_with_the_lease(workers: list[KeptThread]) -> KeptThread:
    return next(worker for worker in workers if worker.kept.desk._runs)


def _with_slots(replica: Any, slots: int) -> Any:
    return msgspec.structs.replace(replica, slots=slots)


def _with_replicas(route: Any, replicas: Any) -> Any:
    return msgspec.structs.replace(route, replicas=replicas)


async def _is(holds: bool) -> bool:
    return holds
