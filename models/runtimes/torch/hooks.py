"""Finding a model's class, making it, and reading what it offers. All of it runs code that is not ours."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from models.runtimes.protocol import EngineError
from models.runtimes.torch.arguments import Arguments
from models.runtimes.torch.batch_queue import Limits
from models.runtimes.torch.contained import contained, in_one_line

if TYPE_CHECKING:
    from models.runtimes.torch.model import TorchModel

METHODS = ("load", "predict")
HOOKS = ("batch_key", "stream", "on_cancel", "example")

log = logging.getLogger("roundhouse.engine")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a class offers besides ``load`` and ``predict``; None for what it has not."""

    limits: Limits
    batch_key: Callable[[Any], Hashable] | None = None
    stream: Callable[[Any], Iterator[Any]] | None = None
    on_cancel: Callable[[Any], None] | None = None
    example: Callable[[], Any] | None = None


def make_model(name: str) -> TorchModel:
    """``name``: package.module:Class. Raises EngineError in one sentence; a traceback goes to the log."""
    module_name, _, attribute = name.partition(":")
    try:
        module = contained(importlib.import_module, module_name)
    except ImportError as problem:
        log.exception("%s cannot be imported", module_name)
        raise EngineError(
            f"engine_args.python_class: {module_name} cannot be imported ({in_one_line(problem)})", "code"
        ) from problem
    except Exception as problem:
        log.exception("%s cannot be imported", module_name)
        raise EngineError(
            f"engine_args.python_class: {module_name} failed while it was imported: {in_one_line(problem)}", "code"
        ) from problem
    if not hasattr(module, attribute):
        raise EngineError(f"engine_args.python_class: {module_name} has no {attribute}", "code")
    try:
        made = contained(getattr(module, attribute))
    except Exception as problem:
        log.exception("%s cannot be made", attribute)
        raise EngineError(f"{attribute} could not be made: {in_one_line(problem)}", "code") from problem
    _check(made, attribute)
    return cast("TorchModel", made)


def read_hooks(model: TorchModel, arguments: Arguments) -> Hooks:
    """What the card says goes before what the class says. Raises EngineError for a hook of the wrong kind."""
    name = type(model).__name__
    for hook in HOOKS:
        if not callable(getattr(model, hook, len)):
            raise EngineError(f"{name}.{hook} is no method", "code")
    default = Limits()
    batch_size = arguments.max_batch or getattr(model, "batch_size", default.batch_size)
    delay_s = getattr(model, "max_delay_s", default.max_delay_s) if arguments.max_delay is None else arguments.max_delay
    if type(batch_size) is not int or batch_size < 1:
        raise EngineError(f"{name}.batch_size must be a whole number above 0", "code")
    if type(delay_s) not in (int, float) or not 0 <= delay_s < float("inf"):
        raise EngineError(f"{name}.max_delay_s must be a time in seconds", "code")
    limits = Limits(
        batch_size=batch_size,
        max_delay_s=delay_s,
        queue_size=arguments.max_queue or default.queue_size,
        predict_timeout_s=arguments.predict_timeout,
        request_timeout_s=arguments.request_timeout,
    )
    return Hooks(limits, *(getattr(model, hook, None) for hook in HOOKS))


def _check(made: Any, attribute: str) -> None:
    for method in METHODS:
        if not callable(getattr(made, method, None)):
            raise EngineError(f"engine_args.python_class: {attribute} has no method {method}", "code")
    if not isinstance(getattr(made, "task", None), str):
        raise EngineError(
            f'engine_args.python_class: {attribute} has no task; say for example task = "predict" in the class', "code"
        )
