"""Which models are asked, and what."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.load.settings import Settings
from loadtests.served import chat_models, models_of
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
    with FakeService({}).running() as service, pytest.raises(Refused, match=r"invalid_api_key: .*ROUNDHOUSE_API_KEY"):
        chat_models(Target(service.target.url, "wrong"))


def test_no_service_means_start_one() -> None:
    with FakeService({}).running() as service:
        target = service.target
    with pytest.raises(
        TargetError, match=r"no service answers at http://127\.0\.0\.1:\d+ \(.*refused\); start it with `make run`"
    ):
        chat_models(target)


def found(served: dict[str, FakeModel], /, **given: Any) -> Settings:
    with FakeService(served).running() as service:
        return models_of(service.target, Settings(**{"suite": "steady", **given}))


MIXED = {
    "llama": FakeModel(capabilities=("generate", "tokenize"), context=512),
    "qwen": FakeModel(),
    "stock": FakeModel(runtime=None),
    "minilm": FakeModel(runtime="torch", capabilities=("embed",)),
    "painter": FakeModel(runtime="torch", capabilities=("image",)),
}


def test_a_suite_asks_language_models_unless_it_is_told_otherwise() -> None:
    settings = found(MIXED)
    assert (settings.models, settings.embedders) == (("llama", "qwen", "stock"), ())
    assert settings.contexts == {"llama": 512}


@pytest.mark.parametrize("given", [{"suite": "smoke"}, {"dialects": {"chat": 1.0, "embeddings": 1.0}}])
def test_embedders_are_asked_where_embeddings_are_wanted(given: dict[str, Any]) -> None:
    assert found(MIXED, **given).embedders == ("minilm",)


def test_embeddings_alone_leave_language_models_alone() -> None:
    settings = found(MIXED, dialects={"embeddings": 1.0})
    assert (settings.models, settings.embedders) == ((), ("minilm",))


def test_models_that_are_named() -> None:
    settings = found(MIXED, models=("minilm", "qwen"))
    assert (settings.models, settings.embedders) == (("qwen",), ("minilm",))
    with pytest.raises(TargetError, match="no model gpt-9; there are llama, qwen"):
        found(MIXED, models=("gpt-9",))


def test_a_spike_is_for_the_model_that_can_scale_most_unless_others_are_named() -> None:
    served = {"llama": FakeModel(), "qwen": FakeModel(max_replicas=4), "minilm": MIXED["minilm"]}
    assert found(served, suite="spike").models == ("qwen",)
    assert found(served, suite="spike", models=("llama", "qwen")).models == ("llama", "qwen")
    assert found(served, suite="ramp").models == ("llama", "qwen")


def test_a_service_of_other_models_is_no_target() -> None:
    with pytest.raises(TargetError, match=r"painter: load tests ask for text and for embeddings"):
        found({"painter": MIXED["painter"]})


def test_embeddings_that_nobody_makes_and_a_service_without_models() -> None:
    with pytest.raises(TargetError, match=r"--dialects: http.* has nothing that makes embeddings \(llama\)"):
        found({"llama": MIXED["llama"]}, dialects={"embeddings": 1.0})
    with pytest.raises(TargetError, match="serves no model"):
        found({})
