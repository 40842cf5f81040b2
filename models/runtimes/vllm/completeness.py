"""Whether every number of a model came from its files, and every number of its files went into the model.

vLLM lets half of a fused matrix stay as it was allocated when the other half is there, and takes only the first rows of
a tensor that is larger than config.json says. Both give a model that talks nonsense.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.runtimes.protocol import EngineError

Span = tuple[int, int]


@dataclass
class Region:
    """Bytes of one tensor, and which of them were touched."""

    name: str
    shape: tuple[int, ...]
    begin: int  # address
    size_bytes: int
    spans: list[Span] = field(default_factory=list)  # relative to ``begin``
    scattered_bytes: int = 0  # of views that are not in one piece, without their places
    target: str = ""  # the parameter that it was copied into

    def touch(self, tensor: torch.Tensor) -> None:
        if tensor.is_contiguous():
            begin = tensor.data_ptr() - self.begin
            self.spans.append((begin, begin + tensor.nbytes))
        else:
            self.scattered_bytes += tensor.nbytes

    def gaps(self) -> list[Span]:
        """What was not touched; nothing where that is not known for sure."""
        missing, at = [], 0
        for begin, end in sorted(self.spans):
            if begin > at:
                missing.append((at, begin))
            at = max(at, end)
        if at < self.size_bytes:
            missing.append((at, self.size_bytes))
        return missing if sum(end - begin for begin, end in missing) > self.scattered_bytes else []


class LoadingWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, notes which parts of a model's parameters are written and which of its files' tensors are read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parameters: dict[int, Region] = {}  # by the address of their storage
        self._files: list[Region] = []
        for name, parameter in model.named_parameters():
            if parameter.numel() and parameter.is_contiguous():
                self._parameters[parameter.data_ptr()] = _region(name, parameter)

    def reading(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """``weights`` as they come from the files."""
        for name, tensor in weights:
            if tensor.numel() and tensor.is_contiguous():
                self._files.append(_region(name, tensor))
            yield name, tensor

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.is_view:
            return result
        written = read = None
        for argument, description in zip(args, function._schema.arguments, strict=False):
            for tensor in argument if isinstance(argument, list | tuple) else (argument,):
                if not isinstance(tensor, torch.Tensor) or not tensor.numel() or tensor.is_meta:
                    continue
                if description.alias_info is not None and description.alias_info.is_write:
                    written = self._touch(self._parameters.get(tensor.untyped_storage().data_ptr()), tensor)
                else:
                    read = self._touch(self._file(tensor.data_ptr()), tensor)
        if written is not None and read is not None:
            read.target = written.name
        return result

    def _touch(self, region: Region | None, tensor: torch.Tensor) -> Region | None:
        if region is not None:
            region.touch(tensor)
        return region

    def _file(self, address: int) -> Region | None:
        """The latest first: weights are used as they come."""
        for region in reversed(self._files):
            if region.begin <= address < region.begin + region.size_bytes:
                return region
        return None

    def check(self, model: nn.Module) -> None:
        """Raises EngineError naming what is missing or left over."""
        for region in self._parameters.values():
            gaps = region.gaps()
            if region.spans and gaps:
                missing = _halves(model, region, gaps[0]) or f"a part of {region.name}"
                raise EngineError(f"the weights are incomplete: {missing} is missing", "weights")
        for region in self._files:
            # Other layers may well leave some of a table out: positions that config.json does not want, for instance.
            if region.target and _is_linear(model, region.target) and region.gaps():
                raise EngineError(
                    f"the weights do not match config.json: {region.name} has the shape {list(region.shape)}, of which"
                    " the model uses only a part",
                    "weights",
                )


def _region(name: str, tensor: torch.Tensor) -> Region:
    return Region(name, tuple(tensor.shape), tensor.data_ptr(), tensor.nbytes)


def _is_linear(model: nn.Module, parameter: str) -> bool:
    layer = model.get_submodule(parameter.rpartition(".")[0])
    return hasattr(layer, "input_size") and hasattr(layer, "output_size")


def _halves(model: nn.Module, region: Region, gap: Span) -> str:
    """The name that the missing rows of a fused matrix have in the files; empty when it is not known."""
    owner, _, attribute = region.name.rpartition(".")
    layer = model.get_submodule(owner)
    above, _, fused = owner.rpartition(".")
    parts: Mapping[str, list[str]] = getattr(model, "packed_modules_mapping", None) or {}
    sizes: list[int] = list(getattr(layer, "output_sizes", ()))
    names = parts.get(fused, [])
    if len(names) != len(sizes) or sum(sizes) != region.shape[0]:
        return ""
    first_row = gap[0] // (region.size_bytes // region.shape[0])
    for name, size in zip(names, sizes, strict=True):
        if first_row < size:
            return ".".join(part for part in (above, name, attribute) if part)
        first_row -= size
    return ""
