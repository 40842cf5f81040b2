"""The ``engine_args`` of the torch runtime, checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.runtimes.protocol import EngineError

LOAD_TIMEOUT_S = 600.0
PREDICT_TIMEOUT_S = 120.0

Process = Literal["own", "shared"]
Sleep = Literal["unmap", "checkpoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """None stands for "as the model's class says". Times in seconds; a timeout of 0 is none."""

    python_class: str | None = None  # package.module:Class
    process: Process = "own"
    settings: Mapping[str, Any] = field(default_factory=dict)  # for the class: Weights.settings
    max_batch: int | None = None  # inputs of one predict
    max_delay: float | None = None  # that the first of a batch waits for company
    max_queue: int | None = None  # inputs that wait
    predict_timeout: float = PREDICT_TIMEOUT_S  # of one batch or piece, after which the engine is broken
    load_timeout: float = LOAD_TIMEOUT_S
    request_timeout: float = 0.0  # from a request's arrival to its answer
    sleep: Sleep = "unmap"  # on a GPU: see models/cuda/sleep.py

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Arguments:
        """Raises EngineError naming the argument."""
        for name, value in given.items():
            if name not in _CHECKS:
                close = difflib.get_close_matches(name, _CHECKS, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_CHECKS)}"
                raise EngineError(f"engine_args.{name} is not an argument of the torch runtime; {hint}")
            good, must = _CHECKS[name]
            if not good(value):
                raise EngineError(f"engine_args.{name} must be {must}, not {str(value)[:60]!r}")
        if given.get("sleep") == "checkpoint" and given.get("process") == "shared":
            raise EngineError("engine_args.sleep: checkpoint takes a whole process off the GPU: process must be own")
        return cls(**given)


def _is_class(value: Any) -> bool:
    return isinstance(value, str) and all(part.strip() for part in value.partition(":"))


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "python_class": (_is_class, "written as package.module:Class"),
    "process": (lambda value: value in ("own", "shared"), "own or shared"),
    "settings": (lambda value: isinstance(value, dict), "an object"),
    "max_batch": (_is_count, "a whole number above 0"),
    "max_delay": (_is_time, "a time in seconds"),
    "max_queue": (_is_count, "a whole number above 0"),
    "predict_timeout": (_is_time, "a time in seconds"),
    "load_timeout": (_is_time, "a time in seconds"),
    "request_timeout": (_is_time, "a time in seconds"),
    "sleep": (lambda value: value in ("unmap", "checkpoint"), "unmap or checkpoint"),
}
