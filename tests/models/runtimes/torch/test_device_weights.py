"""Bytes are counted once, and (by tests/gpu, on a real one) leave the device and come back."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.runtimes.torch.device_weights import DeviceWeights, weight_owners

CPU = torch.device("cpu")


def size_bytes(*owners):
    return DeviceWeights(owners, CPU).size_bytes()


def test_parameters_and_buffers():
    assert size_bytes(nn.Linear(8, 8)) == 8 * 8 * 4 + 8 * 4
    assert size_bytes(nn.BatchNorm1d(4)) == 4 * 4 * 4 + 8


def test_what_shares_memory_is_counted_once():
    module = nn.Linear(8, 8, bias=False)
    tied = nn.Sequential(module, nn.Linear(8, 8, bias=False))
    tied[1].weight = module.weight
    assert size_bytes(tied) == 8 * 8 * 4
    assert size_bytes(tied, module, module.weight) == 8 * 8 * 4
    whole = torch.zeros(100)
    assert size_bytes(whole[:60], whole[40:]) == 400
    assert size_bytes(whole[::2]) == 396  # from the first to the last
    assert size_bytes(whole[:0]) == 0
    assert size_bytes(torch.empty(8, device="meta")) == 0


def test_on_the_cpu_weights_stay_where_they_are():
    module = nn.Linear(8, 8)
    weights = DeviceWeights([module], CPU)
    pointer = module.weight.data_ptr()
    weights.to_host()
    weights.to_device()
    assert not weights.moves
    assert not weights.has_copy
    assert module.weight.data_ptr() == pointer


def test_how_much_of_them_is_mapped(tmp_path):
    save_file({"a": torch.zeros(100), "b": torch.zeros(50)}, tmp_path / "model.safetensors")
    files = load_file(tmp_path / "model.safetensors")
    own = torch.zeros(7)
    weights = DeviceWeights([files["a"], own], CPU)
    assert (weights.size_bytes(), weights.mapped_bytes(files.values())) == (428, 400)
    assert weights.mapped_bytes([]) == 0


def test_what_belongs_to_a_model_is_found_by_itself():
    class Model:
        def __init__(self):
            self.net = nn.Linear(1, 1)
            self.table = torch.zeros(3)
            self.heads = [nn.Linear(2, 2), "not one"]
            self.by_name = {"a": nn.Linear(3, 3)}
            self.threshold = 0.5

    model, bound = Model(), nn.Linear(4, 4)
    found = weight_owners(model, [bound, model.net])
    assert [id(owner) for owner in found] == [
        id(owner) for owner in (bound, model.net, model.table, model.heads[0], model.by_name["a"])
    ]


def test_a_model_without_attributes():
    class Slotted:
        __slots__ = ()

    assert weight_owners(Slotted(), []) == []
