"""Matrices that replicas share, and private copies that are faster."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from models.runtimes.vllm import linear as vllm_linear
from models.runtimes.vllm.linear import (
    FEW_TOKENS,
    MOST_COMPILED,
    CompiledLinear,
    SharedLinear,
    TwofoldLinear,
    can_be_packed,
    choosable,
    choose,
    pack,
    private_linear,
    unpack,
)


@pytest.fixture(autouse=True, scope="module")
def vllms_kernels():
    import vllm._custom_ops  # noqa: F401 - they are there from then on, whatever ran before


def packs():
    return vllm_linear.kernels() == "packed-bf16"


def matrix(rows, columns, dtype=torch.bfloat16):
    return torch.randn(rows, columns, dtype=dtype) * 0.1


def close(found, x, weight, bias=None):
    expected = nn.functional.linear(x.float(), weight.float(), None if bias is None else bias.float())
    return torch.allclose(found.float(), expected, atol=0.03, rtol=0.02)


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (16, 32), (80, 96), (512, 224)])
def test_what_is_packed_can_be_unpacked(shape):
    weight = matrix(*shape)
    if can_be_packed(weight):
        assert torch.equal(unpack(pack(weight)), weight)
    else:
        assert not packs()


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 17, 70])
@pytest.mark.parametrize("biased", [False, True])
def test_the_shared_form_multiplies(tokens, biased):
    weight, x = matrix(96, 64), matrix(tokens, 64)
    bias = matrix(1, 96)[0] if biased else None
    linear = SharedLinear(pack(weight)) if packs() else vllm_linear.plain_linear
    assert close(linear(x, torch.empty(0), bias) if packs() else linear(x, weight, bias), x, weight, bias)


@pytest.mark.parametrize(
    ("weight", "can"),
    [
        (matrix(64, 64), True),
        (matrix(60, 64), False),
        (matrix(64, 48), False),
        (matrix(64, 64, torch.float32), False),
        (matrix(64, 64, torch.float16), False),
        (torch.ones(64, 1, 4, dtype=torch.bfloat16), False),
    ],
)
def test_what_can_be_packed(weight, can):
    assert can_be_packed(weight) is (can and packs())


def test_a_form_that_is_not_known_is_noticed(monkeypatch):
    monkeypatch.setattr(vllm_linear, "pack", lambda weight: weight)
    with pytest.raises(ValueError, match="not the one that is known"):
        unpack(matrix(64, 64))


def test_few_tokens_take_the_shared_form_and_many_the_private_one():
    def form(name):
        return lambda x, weight, bias: torch.full((x.shape[0],), ord(name))

    linear = TwofoldLinear(form("f"), form("m"), 32)
    for tokens in range(1, 9):
        expected = "f" if tokens <= FEW_TOKENS else "m"
        assert chr(int(linear(matrix(tokens, 32), torch.empty(0), None)[0])) == expected


def test_what_is_compiled_is_compiled_for_all_threads_and_once():
    within, asked = [], []

    @contextmanager
    def whole():
        within.append(True)
        yield
        within.pop()

    def multiply(x, weight, bias):
        asked.append((x.shape[0], bool(within)))
        return x

    linear = CompiledLinear(multiply, 32, whole)
    for tokens in (5, 5, 7, 5, 7):
        assert linear(matrix(tokens, 32), torch.empty(0), None).shape == (tokens, 32)
    assert asked == [(5, True), (5, False), (7, True), (5, False), (7, False)]
    linear(matrix(14, 32).reshape(2, 7, 32), torch.empty(0), None)
    assert asked[-1] == (2, True), "fourteen rows are others than seven"
    for tokens in range(8, 9 + MOST_COMPILED):
        linear(matrix(tokens, 32), torch.empty(0), None)
    linear(matrix(5, 32), torch.empty(0), None)
    assert asked[-1] == (5, True), "it may have been forgotten meanwhile"


def test_one_that_could_not_be_multiplied_is_not_compiled():
    def multiply(x, weight, bias):
        raise RuntimeError("no memory")

    entered = []

    def whole():
        entered.append(1)
        return nullcontext()

    linear = CompiledLinear(multiply, 32, whole)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no memory"):
            linear(matrix(5, 32), torch.empty(0), None)
    assert len(entered) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_vllms_own_choice_is_made_of_a_copy(dtype):
    from vllm.model_executor.layers import utils

    own = getattr(utils, "dispatch_cpu_unquantized_gemm")  # noqa: B009 - patched or not
    weight, x = matrix(80, 64, dtype), matrix(7, 64, dtype)
    linear = private_linear(weight, None, own)
    assert linear is not None
    expected = linear(x, torch.empty(0), None).clone()
    assert close(expected, x, weight)
    weight.zero_()
    assert torch.equal(linear(x, torch.empty(0), None), expected)


def test_a_choice_that_changes_the_bias_is_not_taken():
    def own(layer, remove_weight):
        layer.bias.data = layer.bias.double()
        layer.cpu_linear = lambda x, weight, bias: x

    bias = torch.ones(64)
    assert private_linear(matrix(64, 64), bias, own) is None
    assert bias.dtype is torch.float32


def test_torchs_own_is_no_copy():
    def own(layer, remove_weight):
        layer.cpu_linear = nn.functional.linear

    assert private_linear(matrix(64, 64), None, own) is None


def test_a_loader_decides_only_while_it_loads(monkeypatch):
    monkeypatch.setattr(vllm_linear, "_own", [])
    asked = []
    dispatch = choosable(lambda layer, remove: asked.append("vllm"))
    dispatch(nn.Module(), True)
    with choose(lambda layer, remove: asked.append("loader")):
        dispatch(nn.Module(), True)
        vllm_linear.own_dispatch()(nn.Module(), True)
    dispatch(nn.Module(), False)
    assert asked == ["vllm", "loader", "vllm", "vllm"]
