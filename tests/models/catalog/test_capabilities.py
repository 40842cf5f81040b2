"""What a model can do is told from its card and folder, and nothing where only the engine can know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.catalog.capabilities import OF_TASK, capabilities_of
from models.catalog.card import ModelCard
from models.runtimes.tasks.defaults import PAINTER, TASKS
from models.runtimes.torch.tasks import TASKS as SERVED
from tests.models.catalog.folders import model_folder


def card(runtime: str = "torch", **more: Any) -> ModelCard:
    return ModelCard.model_validate({"model_id": "m", "model_source": "m", "runtime": runtime, **more})


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"architectures": ["BertModel"]}, ("embed", "predict")),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, ("score", "predict")),
        ({"architectures": ["BertForSequenceClassification"]}, ("classify", "predict")),
        ({"architectures": ["CoordinatePainter"]}, ("image", "predict")),
        ({"architectures": ["FormantVoice"]}, ("speech", "predict")),
        ({"architectures": ["LexiconEar"]}, ("transcribe", "realtime", "predict")),
        ({"architectures": ["Unknown"]}, ()),
        ({"architectures": None}, ()),
    ],
)
def test_the_torch_runtime_goes_by_the_class_that_will_serve_it(tmp_path: Path, config: Any, found: Any) -> None:
    assert capabilities_of(card(), model_folder(tmp_path / "m", **config)) == found


def test_a_named_class_goes_first_and_one_of_the_users_is_not_known(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", architectures=["BertModel"])
    assert capabilities_of(card(allow_code="mine:Model"), folder) == ()
    assert capabilities_of(card(allow_code=PAINTER), folder) == ("image", "predict")
    assert capabilities_of(card(allow_code=PAINTER), None) == ("image", "predict")


@pytest.mark.parametrize(
    ("architecture", "args", "found"),
    [
        ("LlamaForCausalLM", {}, ("generate", "tokenize")),
        ("Qwen3ForCausalLM", {"max_model_len": 100}, ("generate", "tokenize")),
        ("Qwen3ForCausalLM", {"runner": "pooling"}, ()),
        ("Qwen3ForCausalLM", {"convert": "embed"}, ()),
        ("BertModel", {}, ()),
        ("WhisperForConditionalGeneration", {}, ()),
    ],
)
def test_vllm_is_known_for_language_models_alone(tmp_path: Path, architecture: str, args: Any, found: Any) -> None:
    folder = model_folder(tmp_path / "m", architectures=[architecture])
    assert capabilities_of(card("vllm", engine_args=args), folder) == found


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"architectures": "Llama"}'])
@pytest.mark.parametrize("runtime", ["torch", "vllm"])
def test_a_folder_that_cannot_be_read_says_nothing(tmp_path: Path, content: str | None, runtime: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert capabilities_of(card(runtime), tmp_path) == ()
    assert capabilities_of(card(runtime), None) == ()


def test_every_task_of_a_shipped_class_has_its_words() -> None:
    assert set(TASKS.values()) == set(OF_TASK)
    assert set(OF_TASK) | {"predict"} == set(SERVED)
