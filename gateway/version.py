"""The version of this installation."""

from __future__ import annotations

import functools
from importlib import metadata

DISTRIBUTION = "roundhouse-serve"


@functools.cache
def version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+source"  # run from a tree that was not installed
