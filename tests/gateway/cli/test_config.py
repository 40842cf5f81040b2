from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from models.demo.catalog import demo_config_text
from tests.gateway.cli.conftest import Cli


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The smallest folder that passes for a model."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8})
    )
    (folder / "tokenizer.json").write_text("{}")
    save_file({"x": np.zeros(2, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def test_the_schema_takes_the_demo_and_refuses_a_slip(cli: Cli, tmp_path: Path) -> None:
    schema = cli("config", "schema").json
    jsonschema.Draft202012Validator.check_schema(schema)
    demo = yaml.safe_load(demo_config_text(tmp_path))
    jsonschema.validate(demo, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**demo, "modles": []}, schema)
    assert cli("config", "schema", "--json").json == schema


def test_a_good_file(cli: Cli, tmp_path: Path, model: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text("models: [{model_id: tiny, model_source: ./tiny}]\n")
    assert cli("config", "check", "--json").json == {"ok": True, "path": "roundhouse.yaml", "models": ["tiny"]}
    assert "good, 1 models" in cli("config", "check").out


def test_a_file_with_mistakes(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("models: [{model_id: tiny, model_source: ./tiny, ttl: soon}]\n")
    said = cli("config", "check", str(path), "--json")
    assert (said.status, said.error["code"]) == (2, "invalid_configuration")
    assert said.error["problems"][0]["field"] == "models[0].ttl"


def test_models_that_could_not_be_served(cli: Cli, tmp_path: Path, model: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text(
        "models:\n"
        "  - {model_id: tiny, model_source: ./tiny}\n"
        "  - {model_id: missing, model_source: ./missing}\n"
        "  - {model_id: far, model_source: 'hf://org/repo@main'}\n"
    )
    said = cli("config", "check", "--json")
    assert (said.status, said.error["code"]) == (2, "model_source")
    assert [problem["model_id"] for problem in said.error["problems"]] == ["missing", "far"]
    assert "2 of 3 models cannot be served" in cli("config", "check").err
