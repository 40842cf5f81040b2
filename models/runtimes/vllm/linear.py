"""How a linear layer multiplies on the CPU: with weights that replicas share, or with a faster private copy of them.

vLLM has oneDNN copy every matrix into a form of its own, which nobody else can map. Its kernels for small layers (those
of SGLang) take a packed matrix that is an ordinary tensor: that one goes into the layout, is mapped by every replica,
and is as fast for a few tokens at once. For many tokens oneDNN's is faster by up to a fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import nn

ROW_BLOCK = 16  # the kernels' tiles
COLUMN_BLOCK = 32
MOST_COMPILED = 128  # numbers of rows; oneDNN remembers 1,024 multiplications, and a model has about five kinds
FEW_TOKENS = 4  # up to so many the shared form is as fast as oneDNN's, or faster

Dispatch = Callable[[nn.Module, bool], None]  # layer, whether its weight may be dropped


class Linear(Protocol):
    """What vLLM calls as ``layer.cpu_linear``."""

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor: ...


class SharedLinear:
    """Multiplies with a packed matrix, wherever it lies."""

    def __init__(self, packed: torch.Tensor) -> None:
        from vllm import _custom_ops

        self.packed = packed
        self.rows = packed.shape[0]
        self._multiply = _custom_ops.weight_packed_linear_cpu

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        result: torch.Tensor = self._multiply(x, self.packed, self.rows, None if bias is None else bias.float())
        return result


class TwofoldLinear:
    """The shared form for a few tokens, a private one for many."""

    def __init__(self, few: Linear, many: Linear, columns: int) -> None:
        self.few = few
        self.many = many
        self._most_numbers = FEW_TOKENS * columns

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return (self.few if x.numel() <= self._most_numbers else self.many)(x, weight, bias)


class CompiledLinear:
    """A private form, for one matrix. oneDNN compiles it for a number of rows when it first meets them, and never uses
    more threads for as many rows than there were then, however many there are later: the first time, ``whole`` is
    entered, within which there are as many as are ever wanted."""

    def __init__(self, multiply: Linear, columns: int, whole: Callable[[], AbstractContextManager[None]]) -> None:
        self._multiply = multiply
        self._columns = columns
        self._whole = whole
        self._compiled: set[int] = set()

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        rows = x.numel() // self._columns
        if rows in self._compiled:
            return self._multiply(x, weight, bias)
        if len(self._compiled) >= MOST_COMPILED:
            self._compiled.clear()
        with self._whole():
            result = self._multiply(x, weight, bias)
        self._compiled.add(rows)
        return result


def plain_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return nn.functional.linear(x, weight, bias)


def kernels() -> str:
    """Which form of matrices this machine shares: part of a layout's key."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or current_platform.is_zen_cpu():
        return "plain"
    # Private names of torch's, as vLLM itself asks.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "packed-bf16" if fast and hasattr(torch.ops._C, "convert_weight_packed") else "plain"


def can_be_packed(weight: torch.Tensor) -> bool:
    return (
        weight.ndim == 2
        and weight.dtype is torch.bfloat16
        and weight.shape[0] % ROW_BLOCK == 0
        and weight.shape[1] % COLUMN_BLOCK == 0
        and kernels() == "packed-bf16"
    )


def pack(weight: torch.Tensor) -> torch.Tensor:
    packed: torch.Tensor = torch.ops._C.convert_weight_packed(weight)
    return packed


def private_linear(weight: torch.Tensor, bias: torch.Tensor | None, dispatch: Dispatch) -> Linear | None:
    """vLLM's own choice for a matrix, made of a copy of it; None when it would not copy.

    ``dispatch`` may change the layer that it is given, so it gets one that stands in for the real one.
    """
    layer = _StandIn(weight, bias)
    dispatch(layer, False)
    chosen: Any = layer.__dict__.get("cpu_linear")
    changed = layer.bias is not None and bias is not None and layer.bias.dtype != bias.dtype
    # Its kernel for small layers wants the bias in another type, which the shared form cannot follow.
    return None if chosen is nn.functional.linear or changed else chosen


class _StandIn(nn.Module):
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        # vLLM's kinds of parameters cannot be wrapped, what they hold can.
        self.weight = nn.Parameter(weight.data, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.data, requires_grad=False)


_chosen: list[Dispatch] = []  # what a loader wants instead of vLLM's own, while it loads
_own: list[Dispatch] = []


def choosable(own: Dispatch) -> Dispatch:
    """vLLM's ``dispatch_cpu_unquantized_gemm``, or what ``choose`` has put in its place."""
    _own[:] = [own]

    def dispatch(layer: nn.Module, remove_weight: bool) -> None:
        (_chosen or _own)[-1](layer, remove_weight)

    return dispatch


@contextmanager
def choose(dispatch: Dispatch) -> Iterator[None]:
    """While active, ``dispatch`` decides how a layer multiplies."""
    _chosen.append(dispatch)
    try:
        yield
    finally:
        _chosen.pop()


def own_dispatch() -> Dispatch:
    """vLLM's own choice. The patches must have been applied."""
    return _own[-1]


PACKED_ROWS = 32  # of a block of the packed form: [block][pair of columns][row][column of the pair]


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """The matrix that ``pack`` was given. Raises ValueError when vLLM packs in another way than is known here."""
    rows, columns = packed.shape
    flat = packed.reshape(-1)
    matrix = torch.empty_like(packed)
    whole = rows // PACKED_ROWS * PACKED_ROWS
    for first, last in ((0, whole), (whole, rows)):
        height = min(PACKED_ROWS, last - first)
        if height > 0:
            blocks = flat[first * columns : last * columns].view(-1, columns // 2, height, 2)
            matrix[first:last].view(-1, height, columns // 2, 2).copy_(blocks.permute(0, 2, 1, 3))
    if not torch.equal(pack(matrix[:PACKED_ROWS]), packed[:PACKED_ROWS]):
        raise ValueError("vLLM's packed form is not the one that is known")
    return matrix
