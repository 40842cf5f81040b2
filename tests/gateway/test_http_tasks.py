"""Models that are not for text, through the whole gateway: models in paths, sound, and what they cannot do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.world import World, chat_body

pytestmark = pytest.mark.anyio


async def post(world: World, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    async with world.client() as session, session.post(path, json=body, headers=world.headers | headers) as answer:
        return answer.status, await answer.json()


async def test_the_path_names_the_model_and_the_body_is_any_json(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("org/m", "m-1", aliases=("short",)))
    for path in ("/v1/predict/org/m", "/v1/predict/short"):
        status, _ = await post(world, path, {"model": "ignored", "inputs": [1, 2]})
        assert status == 200
    assert [seen.path for seen in engine.seen] == ["/v1/predict/org/m"] * 2, "the engine knows it by its id"
    assert engine.seen[0].json == {"model": "ignored", "inputs": [1, 2]}


@pytest.mark.parametrize("path", ["/v1/predict/nobody", "/v1/predict/org/none"])
async def test_a_model_that_is_not_there(world: World, path: str) -> None:
    await world.route()
    status, answer = await post(world, path, [1])
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_predicting_needs_a_key_and_json(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    assert (await post(world, "/v1/predict/m", 1, authorization="Bearer wrong"))[0] == 401
    async with world.client() as session:
        async with session.post("/v1/predict/m", data=b"[1,", headers=world.headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_json")
        async with session.get("/v1/predict/m", headers=world.headers) as answer:
            assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def test_a_model_that_cannot_do_it_is_not_even_started(world: World) -> None:
    await world.route(world.model("painter", capabilities=("image", "predict")))  # no replica: it would be held
    status, answer = await post(world, "/v1/chat/completions", chat_body("painter"))
    assert status == 400
    assert answer["error"]["code"] == "unsupported_endpoint"
    assert "/v1/images/generations" in answer["error"]["message"]
    status, answer = await post(world, "/v1/messages", chat_body("painter"))
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    report = await world.report()
    assert report is not None
    assert "painter" not in report.models, "nobody is told to start it"


async def test_models_tell_what_they_can_do(world: World) -> None:
    await world.route(world.model("painter", capabilities=("image", "predict")), world.model("other"))
    async with world.client() as session, session.get("/v1/models", headers=world.headers) as answer:
        shown = {model["id"]: model["capabilities"] for model in (await answer.json())["data"]}
    assert shown == {"painter": ["image", "predict"], "other": []}


@pytest.mark.parametrize(("path", "most_bytes"), [("/v1/images/generations", 1 << 20), ("/v1/audio/speech", 1 << 20)])
async def test_a_prompt_has_no_need_of_megabytes(world: World, path: str, most_bytes: int) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    status, answer = await post(world, path, {"model": "m", "prompt": "x" * most_bytes})
    assert (status, answer["error"]["code"]) == (413, "request_too_large")
    assert str(most_bytes) in answer["error"]["message"]
    assert (await post(world, "/v1/predict/m", {"inputs": "x" * most_bytes}))[0] == 200


async def test_sound_comes_through_byte_for_byte_while_it_is_made(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    body = {"model": "m", "fake": {"do": "sound"}}
    async with (
        world.client() as session,
        session.post("/v1/audio/speech", json=body, headers=world.headers) as answer,
    ):
        assert (answer.status, answer.headers["content-type"]) == (200, "audio/wav")
        first = await asyncio.wait_for(answer.content.readexactly(6), 10)
        assert first == b"RIFF\x00\xff", "the engine has not made the rest yet"
        engine.go_on.set()
        assert await answer.content.read() == bytes(range(256))
