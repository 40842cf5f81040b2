"""Modules bound to mapped files: nothing is copied, buffers have their values, and what is wrong is named."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from models.runtimes.protocol import EngineError
from models.runtimes.torch.weights import Skeleton, Weights
from models.runtimes.vllm.mapped_pages import read_pages
from tests.models.runtimes.tiny_encoders import make_encoder

CPU = torch.device("cpu")
MIB = 1 << 20


class Net(nn.Module):
    def __init__(self, width=4, *, tied=False):
        super().__init__()
        self.table = nn.Embedding(8, width)
        self.head = nn.Linear(width, 8, bias=False)
        self.pooler = nn.Linear(width, width)
        self.register_buffer("angles", torch.arange(width) / width, persistent=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids) * torch.cos(self.get_buffer("angles")))


def save(folder, tensors, name="model.safetensors", **config):
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
    (folder / "config.json").write_text(json.dumps(config))
    return Weights(folder, CPU, {"colour": "red"})


@pytest.fixture
def net():
    torch.manual_seed(1)
    return Net()


def parts(net, without=(), prefix=""):
    return {prefix + name: tensor for name, tensor in net.state_dict().items() if not name.startswith(tuple(without))}


def test_what_a_class_is_given(tmp_path, net):
    weights = save(tmp_path, parts(net), width=4)
    assert (weights.folder, weights.device, weights.settings) == (tmp_path, CPU, {"colour": "red"})
    assert weights.mapped() == []  # nothing was read so far
    assert weights.config == {"width": 4}
    assert set(weights) == set(net.state_dict())
    assert len(weights) == 4
    assert torch.equal(weights["head.weight"], net.head.weight)
    assert torch.equal(weights.tensors()["table.weight"], net.table.weight)
    assert len(weights.mapped()) == 4


def test_a_built_module_is_the_one_that_was_saved_without_a_copy(tmp_path, net):
    weights = save(tmp_path, parts(net))
    built = weights.build(Net)
    ids = torch.tensor([1, 5])
    assert torch.equal(built(ids), net(ids))
    assert built.head.weight.data_ptr() == weights["head.weight"].data_ptr()
    assert not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())
    assert weights.bound == [built]


def test_nothing_is_allocated_for_parameters(tmp_path):
    big = {"weight": torch.ones(4096, 8192), "bias": torch.zeros(4096)}  # 128 MiB
    weights = save(tmp_path, big)
    del big
    before = read_pages().private_bytes
    built = weights.build(lambda: nn.Linear(8192, 4096))
    assert read_pages().private_bytes - before < 16 * MIB
    assert float(built.weight[0].sum()) == 8192


def test_a_skeleton_computes_its_buffers_and_has_no_parameters():
    with Skeleton():
        made = Net()
    assert made.table.weight.is_meta
    assert made.get_buffer("angles").tolist() == [0, 0.25, 0.5, 0.75]


def test_a_prefix_and_a_part_that_nobody_needs(tmp_path, net):
    weights = save(tmp_path, parts(net, without=["pooler"], prefix="model."))
    built = weights.build(Net, prefix="model.", optional=["pooler"])
    assert built.pooler is None
    assert torch.equal(built.head.weight, net.head.weight)


def test_a_tied_parameter_is_saved_once_and_stays_tied(tmp_path):
    tied = Net(tied=True)
    weights = save(tmp_path, parts(tied, without=["head"]))
    built = weights.build(lambda: Net(tied=True))
    assert built.head.weight is built.table.weight
    assert torch.equal(built.head.weight, tied.head.weight)


def test_files_in_parts(tmp_path, net):
    named = parts(net)
    save(tmp_path, {"table.weight": named.pop("table.weight")}, "a-00001-of-00002.safetensors")
    weights = save(tmp_path, named, "a-00002-of-00002.safetensors")
    assert torch.equal(weights.build(Net).table.weight, net.table.weight)


def test_a_module_made_before_may_be_bound(tmp_path, net):
    with torch.device("meta"):
        made = nn.Linear(4, 8, bias=False)
    assert save(tmp_path, {"weight": net.head.weight.detach()}).bind(made) is made
    assert torch.equal(made.weight, net.head.weight)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda named: named.pop("head.weight"), "the weights are incomplete: head.weight is missing"),
        (
            lambda named: named.update({"head.weight": torch.ones(8, 5)}),
            "the weights do not match the model: head.weight has the shape [8, 5] in the files, [8, 4] in the model",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, net, spoil, said):
    named = parts(net)
    spoil(named)
    with pytest.raises(EngineError) as told:
        save(tmp_path, named).build(Net)
    assert (str(told.value), told.value.fault) == (said, "weights")


def test_a_buffer_without_values_is_never_served(tmp_path, net):
    with torch.device("meta"):
        made = Net()
    with pytest.raises(EngineError, match=r"the buffer angles has no values.*weights\.build") as told:
        save(tmp_path, parts(net)).bind(made)
    assert told.value.fault == "code"


@pytest.mark.parametrize(
    ("content", "said"), [(None, r"has no \*\.safetensors file"), (b"\x80\x04pickle", "damaged"), (b"", "damaged")]
)
def test_damaged_files_are_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(EngineError, match=said):
        Weights(tmp_path, CPU).tensors()


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "MPNet", "XLMRoberta"])
def test_transformers_computes_the_same(tmp_path, family):
    folder = make_encoder(tmp_path, family)
    ours = Weights(folder, CPU).transformer(transformers.AutoModel, optional=["pooler"])
    theirs = transformers.AutoModel.from_pretrained(folder)
    ids = torch.tensor([[2, 3, 4]])
    assert torch.equal(ours(ids).last_hidden_state, theirs(ids).last_hidden_state)


def test_a_decoder_has_its_rotary_frequencies(tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    ours = Weights(tmp_path, CPU).transformer(transformers.AutoModelForCausalLM)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[2, 3, 4]])
    assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_the_encoder_of_a_saved_classifier_and_an_encoder_without_its_head(tmp_path):
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    weights = Weights(tmp_path, CPU)
    assert weights.transformer(transformers.AutoModel).pooler is not None
    classifier = weights.transformer(transformers.AutoModelForSequenceClassification)
    assert classifier.classifier.weight.data_ptr() == weights["classifier.weight"].data_ptr()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "no-such"}, "the model's type 'no-such' (in config.json) is not one that transformers knows"),
        ({"model_type": None}, "the model's type None (in config.json) is not one that transformers knows"),
        ({"num_hidden_layers": 3}, "the weights are incomplete: encoder.layer.2"),
        ({"intermediate_size": 64}, "the weights do not match the model: encoder.layer.0"),
    ],
)
def test_a_configuration_that_lies(tmp_path, changes, said):
    folder = make_encoder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(EngineError) as told:
        Weights(folder, CPU).transformer(transformers.AutoModel, optional=["pooler"])
    assert str(told.value).startswith(said)
    assert told.value.fault == "weights"
