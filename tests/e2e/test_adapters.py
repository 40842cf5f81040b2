"""LoRA adapters through the whole service: called by their own names, on one engine with their model."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.service import Service

STORY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a story about a train."}]


@pytest.fixture
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.api_key, max_retries=0, timeout=60)


def told(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(model=model, messages=STORY, max_tokens=24, temperature=0)
    assert answer.model == model
    return str(answer.choices[0].message.content)


def told_in_pieces(client: openai.OpenAI, model: str) -> str:
    with client.chat.completions.create(
        model=model, messages=STORY, max_tokens=24, temperature=0, stream=True
    ) as stream:
        return "".join(event.choices[0].delta.content or "" for event in stream)


def test_a_model_and_its_adapter_answer_from_one_engine(service: Service, client: openai.OpenAI) -> None:
    plain, pirate = told(client, "adapted"), told(client, "org/pirate")
    assert plain == told(client, "tiny-llama"), "the model itself is what it was"
    assert pirate != plain
    assert told(client, "org/pirate") == told_in_pieces(client, "org/pirate") == pirate
    assert len(service.replicas("adapted")) == 1


def test_they_are_listed_with_their_parent_and_its_price(client: openai.OpenAI) -> None:
    listed = {model.id: model.model_dump() for model in client.models.list()}
    assert (listed["adapted"]["parent"], listed["org/pirate"]["parent"]) == (None, "adapted")
    assert listed["org/pirate"]["price"] == {"input_token": "0.0000002"}
    assert client.models.retrieve("org/pirate").id == "org/pirate"
    with pytest.raises(openai.NotFoundError):
        told(client, "org/pirat")
