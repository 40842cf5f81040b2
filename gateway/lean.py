"""Leaves out what libraries load only because it is installed. A worker has no use for it: 190 ms and 13 MB of each.

structlog takes rich to colour tracebacks and greenlet for its threads, redis OpenTelemetry for figures that are off,
FastAPI email_validator and pydantic_extra_types for types that no document of ours has. All go on without. And the
classes that FastAPI has for OpenAPI documents need not be compiled before somebody reads one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

COLOURS = "rich"
UNUSED = ("opentelemetry", "email_validator", "greenlet", "pydantic_extra_types")


def load_fastapi() -> None:
    """Its own pydantic classes are compiled at first use; those defined later at once, as usual."""
    from pydantic import BaseModel

    if "fastapi" in sys.modules:
        return
    BaseModel.model_config["defer_build"] = True  # every class takes its configuration from here
    try:
        importlib.import_module("fastapi")
    finally:
        del BaseModel.model_config["defer_build"]


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Whoever asks for one of these modules is told that it is not installed. Those loaded already stay."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        for name in absent:
            if sys.modules.get(name, absent) is None:
                del sys.modules[name]
