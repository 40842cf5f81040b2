"""The official SDKs, unchanged."""

from __future__ import annotations

import asyncio
import math

import anthropic
import openai
import pytest

from tests.e2e.service import Service

HI: list[dict[str, str]] = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.api_key, max_retries=0, timeout=60)


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-gemma", "tiny-qwen3"])
def test_openai_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HI, max_tokens=6)  # type: ignore[arg-type]
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == model
    assert answer._request_id


def test_openai_stream_is_the_same_text(client: openai.OpenAI) -> None:
    ask = {"model": "tiny-llama", "messages": HI, "max_tokens": 16, "temperature": 0}
    whole = client.chat.completions.create(**ask).choices[0].message.content  # type: ignore[call-overload]
    parts = [
        choice.delta.content or ""
        for chunk in client.chat.completions.create(**ask, stream=True)  # type: ignore[call-overload]
        for choice in chunk.choices
    ]
    assert len(parts) > 2
    assert "".join(parts) == whole


def test_openai_async(service: Service) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.api_key, max_retries=0) as client:
            calls = [
                client.chat.completions.create(model="tiny-llama", messages=HI, max_tokens=4)  # type: ignore[arg-type]
                for _ in range(16)
            ]
            return [answer.model for answer in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == ["tiny-llama"] * 16


def test_openai_completions_and_responses(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="tiny-llama", prompt="once", max_tokens=3)
    assert completion.choices[0].finish_reason in ("length", "stop")
    assert client.responses.create(model="tiny-llama", input="hi", max_output_tokens=16).output
    events = [
        e.type for e in client.responses.create(model="tiny-llama", input="hi", max_output_tokens=16, stream=True)
    ]
    assert events[0] == "response.created"
    assert events[-1] in ("response.completed", "response.incomplete")


def test_openai_models_and_aliases(client: openai.OpenAI) -> None:
    ids = {model.id for model in client.models.list()}
    assert {"tiny-llama", "tiny-gemma", "tiny-qwen3", "minilm"} <= ids
    assert client.models.retrieve("tiny-llama").id == "tiny-llama"
    answer = client.chat.completions.create(model="llama", messages=HI, max_tokens=2)  # type: ignore[arg-type]
    assert answer.choices


def test_embeddings_rank_a_paraphrase_above_an_unrelated_sentence(client: openai.OpenAI) -> None:
    texts = ["A cat sits on the mat.", "On the rug there is a kitten.", "Interest rates rose by half a point."]
    vectors = [row.embedding for row in client.embeddings.create(model="minilm", input=texts).data]
    assert len(vectors[0]) == 384
    assert _cosine(vectors[0], vectors[1]) > _cosine(vectors[0], vectors[2]) + 0.3


def _cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def test_openai_errors_are_its_own_classes(service: Service, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nope", messages=HI)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="tiny-llama", messages=HI, temperature=99)  # type: ignore[arg-type]
    assert "temperature" in str(bad.value)
    stranger = openai.OpenAI(base_url=f"{service.url}/v1", api_key="rh-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_anthropic_messages(service: Service) -> None:
    client = anthropic.Anthropic(base_url=service.url, api_key=service.api_key, max_retries=0)
    answer = client.messages.create(model="tiny-llama", max_tokens=4, messages=HI)  # type: ignore[arg-type]
    assert answer.usage.output_tokens > 0
    with client.messages.stream(model="tiny-llama", max_tokens=4, messages=HI) as stream:  # type: ignore[arg-type]
        list(stream.text_stream)
        assert stream.get_final_message().stop_reason in ("max_tokens", "end_turn")
    assert client.messages.count_tokens(model="tiny-llama", messages=HI).input_tokens > 0  # type: ignore[arg-type]
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nope", max_tokens=4, messages=HI)  # type: ignore[arg-type]
