"""Only models that can chat are loaded; an embedder is left alone."""

from __future__ import annotations

import random

import pytest

from loadtests.prompts import prompt
from loadtests.served import chat_models
from loadtests.target import Target, TargetError
from loadtests.wire import Refused
from tests.loadtests.fake_service import FakeModel, FakeService


def test_the_runtime_tells_a_chat_model_from_an_embedder_without_a_request() -> None:
    models = {"llama": FakeModel(), "minilm": FakeModel(runtime="torch"), "qwen": FakeModel()}
    with FakeService(models).running() as service:
        assert chat_models(service.target) == ["llama", "qwen"]
        assert service.asked == []


def test_where_the_runtime_is_not_told_one_token_is_asked_for() -> None:
    models = {
        "llama": FakeModel(runtime=None),
        "minilm": FakeModel(runtime=None, words=()),
        "broken": FakeModel(runtime=None, refusal=(503, "cannot start")),
    }
    with FakeService(models).running() as service:
        assert chat_models(service.target) == ["llama", "broken"]  # its failure belongs into the report
        assert [asked["max_tokens"] for asked in service.asked] == [1, 1, 1]


def test_named_models_are_taken_as_named_and_unknown_ones_refused() -> None:
    with FakeService({"llama": FakeModel(), "qwen": FakeModel()}).running() as service:
        assert chat_models(service.target, ["qwen"]) == ["qwen"]
        with pytest.raises(TargetError, match="no model gpt-9; there are llama, qwen"):
            chat_models(service.target, ["llama", "gpt-9"])


def test_a_service_without_chat_models_is_no_target() -> None:
    models = {"minilm": FakeModel(runtime="torch")}
    with FakeService(models).running() as service, pytest.raises(TargetError, match=r"can chat \(minilm\)"):
        chat_models(service.target)


def test_a_wrong_key_is_the_servers_to_explain() -> None:
    with FakeService({}).running() as service, pytest.raises(Refused, match="401 invalid_api_key"):
        chat_models(Target(service.target.url, "wrong"))


def test_no_service_means_start_one() -> None:
    with FakeService({}).running() as service:
        target = service.target
    with pytest.raises(
        TargetError, match=r"no service is running at http://127\.0\.0\.1:\d+; start it with `make run`"
    ):
        chat_models(target)


def test_prompts_repeat_with_their_seed_and_differ_early() -> None:
    def said(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [prompt(rng) for _ in range(50)]

    assert said(1) == said(1)
    assert said(1) != said(2)
    assert len({text[:30] for text in said(1)}) > 45
