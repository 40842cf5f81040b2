"""The official clients, unchanged, against the real server."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import anyio.to_thread
import openai
import pytest

from tests.gateway.world import World

pytestmark = pytest.mark.anyio
HI: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def serving(world: World) -> World:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1", aliases=("alias",)))
    return world


def client(world: World, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{world.url}/v1", api_key=key or world.key, max_retries=0, timeout=20)


def claude(world: World) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=world.url, api_key=world.key, max_retries=0, timeout=20)


async def test_openai_blocking(serving: World) -> None:
    def use() -> None:
        with client(serving) as api:
            answer = api.chat.completions.create(model="m", messages=HI)
            assert answer.choices[0].message.content == "one two three"
            assert answer._request_id
            assert api.completions.create(model="alias", prompt="hi").choices[0].text == "one two three"
            assert api.embeddings.create(model="m", input="hi", encoding_format="float").data[0].embedding == [
                0.5,
                -0.5,
            ]
            assert [model.id for model in api.models.list()] == ["m"]
            assert api.models.retrieve("alias").id == "m"

    await anyio.to_thread.run_sync(use)


async def test_openai_streaming(serving: World) -> None:
    def use() -> None:
        with client(serving) as api:
            chunks = list(api.chat.completions.create(model="m", messages=HI, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"

    await anyio.to_thread.run_sync(use)


async def test_openai_async_thirty_two_at_once(serving: World) -> None:
    async with openai.AsyncOpenAI(base_url=f"{serving.url}/v1", api_key=serving.key, max_retries=0) as api:
        answers = await asyncio.gather(*(api.chat.completions.create(model="m", messages=HI) for _ in range(32)))
    assert {answer.choices[0].message.content for answer in answers} == {"one two three"}


async def test_openai_errors_are_its_own_classes(serving: World) -> None:
    def use() -> None:
        with client(serving) as api, pytest.raises(openai.NotFoundError) as missing:
            api.chat.completions.create(model="nope", messages=HI)
        assert missing.value.code == "model_not_found"
        assert missing.value.request_id
        with client(serving, "rh-bad") as api, pytest.raises(openai.AuthenticationError):
            api.models.list()
        refusal = {
            "error": {"message": "temperature must be at most 2.", "type": "x", "param": "temperature", "code": 400}
        }
        fake = {"do": "fail", "status": 400, "body": refusal}
        with client(serving) as api, pytest.raises(openai.BadRequestError) as bad:
            api.chat.completions.create(model="m", messages=HI, extra_body={"fake": fake})
        assert bad.value.param == "temperature"

    await anyio.to_thread.run_sync(use)


async def test_openai_raises_on_a_broken_stream(serving: World) -> None:
    def use() -> None:
        with client(serving) as api, pytest.raises(openai.APIError, match="went away"):
            list(
                api.chat.completions.create(
                    model="m", messages=HI, stream=True, extra_body={"fake": {"do": "die_in_the_middle"}}
                )
            )

    await anyio.to_thread.run_sync(use)


async def test_anthropic_messages_stream_and_count(serving: World) -> None:
    def use() -> None:
        with claude(serving) as api:
            answer = api.messages.create(model="m", max_tokens=8, messages=HI)
            assert answer.usage.output_tokens == 3
            assert answer._request_id
            with api.messages.stream(model="m", max_tokens=8, messages=HI) as stream:
                assert "".join(stream.text_stream) == "one two three"
                assert stream.get_final_message().stop_reason == "end_turn"
            assert api.messages.count_tokens(model="m", messages=HI).input_tokens == 7

    await anyio.to_thread.run_sync(use)


async def test_anthropic_errors_are_its_own_classes(serving: World) -> None:
    def use() -> None:
        with claude(serving) as api:
            with pytest.raises(anthropic.NotFoundError):
                api.messages.create(model="nope", max_tokens=8, messages=HI)
            with (
                pytest.raises(anthropic.APIStatusError, match="went away"),
                api.messages.stream(
                    model="m", max_tokens=8, messages=HI, extra_body={"fake": {"do": "die_in_the_middle"}}
                ) as stream,
            ):
                list(stream.text_stream)

    await anyio.to_thread.run_sync(use)
