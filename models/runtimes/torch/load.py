"""Loading a model's class, in the model's own thread: make it, give it its weights, hold it to its canary."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.runtimes.protocol import EngineError, EngineOrder
from models.runtimes.torch.arguments import Arguments
from models.runtimes.torch.canary import Canary, record_path
from models.runtimes.torch.contained import contained, in_one_line
from models.runtimes.torch.hooks import Hooks, make_model, read_hooks
from models.runtimes.torch.model import TorchModel
from models.runtimes.torch.weights import Weights

if TYPE_CHECKING:
    from models.cuda.module_weights import GpuPlace

log = logging.getLogger("roundhouse.engine")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """``example`` computes the class's own example; None when there is nothing to compare with."""

    name: str  # of the class
    model: TorchModel
    hooks: Hooks
    weights: Weights
    place: GpuPlace | None
    canary: Canary
    example: Callable[[], Any] | None
    timings_s: dict[str, float]


def load_model(order: EngineOrder, arguments: Arguments, class_name: str) -> Loaded:
    """Raises EngineError."""
    began_s = time.monotonic()
    model = make_model(class_name)
    hooks = read_hooks(model, arguments)
    made_s = time.monotonic()
    device = torch.device(order.device.kind)
    place = _place(device)
    put = None if place is None else lambda module: place.put([module])
    weights = Weights(Path(order.source), device, arguments.settings, put)
    canary = Canary(type(model).__name__, record_path(order.layout_dir, model, arguments.settings))
    try:
        _load(model, device, weights)
        loaded_s = time.monotonic()
        example = _held_to(canary, model, hooks, cold=order.cold)
    except BaseException:
        if place is not None and arguments.process == "shared":
            place.close()  # the process goes on
        raise
    timings_s = {
        "class": made_s - began_s,
        "weights": loaded_s - made_s,
        "canary": time.monotonic() - loaded_s,
    }
    return Loaded(
        name=type(model).__name__,
        model=model,
        hooks=hooks,
        weights=weights,
        place=place,
        canary=canary,
        example=example,
        timings_s=timings_s,
    )


def _load(model: TorchModel, device: torch.device, weights: Weights) -> None:
    name = type(model).__name__
    try:
        contained(model.load, device, weights)
    except EngineError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as problem:
        raise EngineError(
            "the model does not fit: the device ran out of memory while it was loaded", "memory"
        ) from problem
    except Exception as problem:
        log.exception("%s.load failed", name)
        raise EngineError(f"{name} could not load the model: {in_one_line(problem)}", "code") from problem


def _held_to(canary: Canary, model: TorchModel, hooks: Hooks, *, cold: bool) -> Callable[[], Any] | None:
    """Compare with the record, or make one; what computes the example. Raises EngineError."""
    name = type(model).__name__
    try:
        given = contained(hooks.example) if hooks.example is not None else None
        if given is None:
            return None

        def compute() -> Any:
            (output,) = contained(model.predict, [given])
            return output

        output = compute()
        if cold or not canary.read():
            return compute if canary.keep(output, compute()) else None
        canary.verify(output)
    except EngineError:
        raise
    except Exception as problem:
        log.exception("%s failed on its own example", name)
        raise EngineError(f"{name} failed on its own example: {in_one_line(problem)}", "code") from problem
    return compute


def _place(device: torch.device) -> GpuPlace | None:
    """Where weights go on a GPU; None on the CPU, where they stay. Raises EngineError."""
    if device.type != "cuda":
        return None
    from models.cuda.sleep import new_place

    try:
        return new_place()
    except (RuntimeError, AssertionError) as problem:  # torch asserts that it was built with CUDA
        raise EngineError(f"the GPU cannot be used: {in_one_line(problem)}") from problem
