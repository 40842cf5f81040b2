"""A card's adapters are looked at before an engine is: each fault in a sentence that names the adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.catalog.adapters import CONFIG, WEIGHTS, adapter_folders, check_adapter
from models.catalog.card import ModelCard
from models.catalog.source import SourceError
from tests.models.runtimes.adapters import make_adapter

MODEL = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(MODEL))
    return make_adapter(tmp_path / "adapters" / "pirate", model, rank=4)


def card(**adapters: str) -> ModelCard:
    return ModelCard.model_validate({"model_id": "m", "model_source": "model", "adapters": adapters})


def refusal(tmp_path: Path, **adapters: str) -> str:
    with pytest.raises(SourceError) as refused:
        adapter_folders(card(**adapters), tmp_path)
    return str(refused.value)


def test_folders_are_relative_to_the_configuration(folder: Path, tmp_path: Path) -> None:
    assert adapter_folders(card(), tmp_path) == {}
    assert adapter_folders(card(a="adapters/pirate", b=str(folder)), tmp_path) == {"a": folder, "b": folder}
    assert check_adapter(folder) == 4


def test_one_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    said = refusal(tmp_path, good="adapters/pirate", bad="adapters/poet")
    assert said == (
        "Model 'm' cannot be started: its adapter 'bad' in adapters/poet: the folder has no adapter_config.json."
    )


def test_a_pickle_is_no_adapter(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    assert "adapter_model.safetensors is missing" in refusal(tmp_path, a=str(folder))


def test_one_that_is_cut_off(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])
    assert "adapter_model.safetensors" in refusal(tmp_path, a=str(folder))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"peft_type": "IA3", "r": 4}', "only LORA is served"),
        ('{"peft_type": "LORA"}', "no rank"),
        ('{"peft_type": "LORA", "r": 0}', "no rank"),
        ('{"peft_type": "LORA", "r": true}', "no rank"),
        ("[]", "does not hold a JSON object"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (" " * (2 << 20), "larger than 1 MiB"),
    ],
    ids=["kind", "no r", "zero", "true", "list", "broken", "deep", "huge"],
)
def test_a_configuration_that_describes_none(folder: Path, tmp_path: Path, config: str, said: str) -> None:
    (folder / CONFIG).write_text(config)
    assert said in refusal(tmp_path, a=str(folder))
