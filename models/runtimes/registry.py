"""Which runtimes there are. Looking one up imports only its own thin module."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from models.runtimes.protocol import Runtime


def _vllm() -> Runtime:
    from models.runtimes.vllm.runtime import VllmRuntime

    return VllmRuntime()


def _plain_vllm(why: str) -> Runtime:
    from models.runtimes.vllm.plain import PlainVllm

    return PlainVllm(why)


def _torch() -> Runtime:
    from models.runtimes.torch.runtime import TorchRuntime

    return TorchRuntime()


RUNTIMES: dict[str, Callable[[], Runtime]] = {"vllm": _vllm, "torch": _torch}
# Slower ways to run the same, for when the one above is broken; made with the reason for it.
FALLBACKS: dict[str, Callable[[str], Runtime]] = {"vllm": _plain_vllm}


def find_runtime(name: str) -> Runtime:
    """A runtime by its name in RUNTIMES, or one of your own as ``package.module:factory``.

    Raises ValueError naming what there is, ImportError for a module that cannot be imported.
    """
    if name in RUNTIMES:
        return RUNTIMES[name]()
    module, separator, factory = name.partition(":")
    if not separator:
        raise ValueError(f"no runtime is called {name!r}: there are {', '.join(RUNTIMES)}, or package.module:factory")
    made = getattr(importlib.import_module(module), factory, None)
    if made is None:
        raise ValueError(f"{module} has no {factory}")
    return cast(Runtime, made())
