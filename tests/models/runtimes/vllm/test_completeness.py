"""Weights that are not all there, or are more than the model has room for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.runtimes.protocol import EngineError
from models.runtimes.vllm.completeness import LoadingWatch


class Fused(nn.Module):
    """As vLLM's merged layers: several matrices of the files, one below the other."""

    def __init__(self, sizes, columns=8):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sum(sizes), columns), requires_grad=False)
        self.output_sizes = list(sizes)
        self.input_size, self.output_size = columns, sum(sizes)

    def take(self, tensor, part):
        first = sum(self.output_sizes[:part])
        size = self.output_sizes[part]
        self.weight.data.narrow(0, first, size).copy_(tensor.narrow(0, 0, size))


class Model(nn.Module):
    packed_modules_mapping = {"gate_up": ["gate", "up"], "qkv": ["q", "k", "v"]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.layer = nn.Module()
        self.layer.gate_up = Fused([6, 6])
        self.layer.qkv = Fused([8, 4, 4])
        self.norm = nn.Parameter(torch.ones(8))

    def load(self, weights):
        places = {"gate": ("gate_up", 0), "up": ("gate_up", 1), "q": ("qkv", 0), "k": ("qkv", 1), "v": ("qkv", 2)}
        for name, tensor in weights:
            if name == "table":
                self.table.weight.data[: len(tensor)].copy_(tensor[:10])
                self.table.weight.data[len(tensor) :].fill_(0)  # vLLM fills a vocabulary up
            elif name == "norm":
                self.norm.data.copy_(tensor)
            else:
                fused, part = places[name]
                getattr(self.layer, fused).take(tensor.to(torch.float32), part)


FILES = {
    "table": torch.randn(9, 8),
    "norm": torch.randn(8),
    "gate": torch.randn(6, 8),
    "up": torch.randn(6, 8),
    "q": torch.randn(8, 8),
    "k": torch.randn(4, 8),
    "v": torch.randn(4, 8),
}


def load(files):
    model = Model()
    watch = LoadingWatch(model)
    with watch:
        model.load(watch.reading(files.items()))
    watch.check(model)
    return model


def test_what_is_complete_passes():
    model = load(FILES)
    assert torch.equal(model.layer.qkv.weight[8:12], FILES["k"])


def test_the_order_does_not_matter():
    load(dict(reversed(FILES.items())))


def test_tensors_of_another_type_are_converted_and_pass():
    load({name: tensor.double() for name, tensor in FILES.items()})


@pytest.mark.parametrize(
    ("left_out", "named"),
    [("up", "layer.up.weight"), ("gate", "layer.gate.weight"), ("q", "layer.q"), ("k", "layer.k"), ("v", "layer.v")],
)
def test_a_missing_half_is_named(left_out, named):
    with pytest.raises(EngineError, match=f"the weights are incomplete: {named}") as told:
        load({name: tensor for name, tensor in FILES.items() if name != left_out})
    assert told.value.fault == "weights"


def test_a_fused_layer_that_nobody_knows_is_named_itself():
    model = Model()
    model.packed_modules_mapping = {}
    watch = LoadingWatch(model)
    with watch:
        model.load(watch.reading([("up", FILES["up"])]))
    with pytest.raises(EngineError, match=r"a part of layer\.gate_up\.weight is missing"):
        watch.check(model)


def test_the_same_half_twice_is_not_both():
    model = Model()
    watch = LoadingWatch(model)
    with watch:
        model.load(watch.reading([("up", FILES["up"]), ("up", FILES["up"].clone())]))
    with pytest.raises(EngineError, match=r"layer\.gate\.weight is missing"):
        watch.check(model)


@pytest.mark.parametrize("name", ["gate", "k"])
def test_a_tensor_that_is_larger_than_the_model_has_room_for_is_named(name):
    larger = FILES | {name: torch.randn(len(FILES[name]) + 3, 8)}
    with pytest.raises(EngineError, match=f"{name} has the shape .*of which the model uses only a part") as told:
        load(larger)
    assert str(told.value).startswith("the weights do not match config.json")


def test_a_table_may_be_larger():
    load(FILES | {"table": torch.randn(12, 8)})


def test_what_nobody_wrote_to_is_left_to_vllms_own_check():
    load({name: tensor for name, tensor in FILES.items() if name not in ("norm", "gate", "up")})


def test_views_in_pieces_are_counted_by_their_size():
    model = Model()
    watch = LoadingWatch(model)
    weight = model.get_parameter("layer.gate_up.weight").data
    with watch:
        weight[:, :4].copy_(torch.ones(12, 4))
        weight[:, 4:].copy_(torch.ones(12, 4))
    watch.check(model)
