"""Encoders bound to mapped files are those that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from models.runtimes.protocol import EngineError
from models.runtimes.torch_checkpoint import load_encoder
from tests.models.runtimes.tiny_encoders import make_encoder

IDS = torch.tensor([[2, 3, 4], [5, 6, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def hidden(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=MASK).last_hidden_state


@pytest.mark.parametrize("family", ["Bert", "Roberta", "XLMRoberta", "DistilBert", "MPNet"])
def test_an_encoder_computes_what_transformers_computes(tmp_path, family):
    folder = make_encoder(tmp_path, family)
    expected = transformers.AutoModel.from_pretrained(folder).eval()
    assert torch.equal(hidden(load_encoder(folder)), hidden(expected))


def mapped_from(file):
    """Where this process has the file in memory."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file))]
    return [range(*(int(bound, 16) for bound in line[0].split("-"))) for line in lines]


def test_weights_are_views_of_the_file_and_need_no_gradients(tmp_path):
    model = load_encoder(make_encoder(tmp_path))
    mapped = mapped_from(tmp_path / "model.safetensors")
    assert mapped
    for parameter in model.parameters():
        assert any(parameter.data_ptr() in part for part in mapped)
        assert not parameter.requires_grad
    assert not model.training


def test_weights_saved_with_a_head_on_top(tmp_path):
    expected = hidden(load_encoder(make_encoder(tmp_path)))
    file = tmp_path / "model.safetensors"
    weights = {f"bert.{name}": tensor for name, tensor in load_file(file).items()}
    save_file({**weights, "cls.predictions.bias": torch.zeros(8)}, file)
    assert torch.equal(hidden(load_encoder(tmp_path)), expected)


def test_an_encoder_saved_without_its_pooler(tmp_path):
    expected = hidden(load_encoder(make_encoder(tmp_path)))
    file = tmp_path / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if "pooler" not in name}, file)
    assert torch.equal(hidden(load_encoder(tmp_path)), expected)


def test_two_shards(tmp_path):
    expected = hidden(load_encoder(make_encoder(tmp_path)))
    file = tmp_path / "model.safetensors"
    items = list(load_file(file).items())
    file.unlink()
    shards = {"one.safetensors": dict(items[::2]), "two.safetensors": dict(items[1::2])}
    for name, tensors in shards.items():
        save_file(tensors, tmp_path / name)
    weight_map = {key: name for name, tensors in shards.items() for key in tensors}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(hidden(load_encoder(tmp_path)), expected)


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 3}, r"the weights are incomplete: encoder\.layer\.2\..* is missing"),
        ({"intermediate_size": 64}, "the weights do not match config.json: a tensor has another shape"),
        ({"model_type": "nonesuch"}, "the model's type 'nonesuch'"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, changes, said):
    change_config(make_encoder(tmp_path), **changes)
    with pytest.raises(EngineError, match=said):
        load_encoder(tmp_path)


def test_damage_is_named(tmp_path):
    file = make_encoder(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(EngineError, match=r"model\.safetensors is damaged"):
        load_encoder(tmp_path)
