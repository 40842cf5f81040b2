"""What ``roundhouse loadtest --help`` says beside the options."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from loadtests.suites import SUITES

WIDTH = 100
_INDENT = " " * 19
USAGE = """roundhouse loadtest SUITE [options]
       roundhouse loadtest report RUN [RUN] [options]   a report of runs that are there; two are compared
       roundhouse loadtest compare SUITE [options]      the same load on several services, in turns"""
EPILOG = """\
environment:
  ROUNDHOUSE_URL         the service, where --target does not name one
  ROUNDHOUSE_API_KEY     its key; of the service that runs here it is known
  ROUNDHOUSE_ADMIN_KEY   of a Roundhouse: for replicas and tiers in the report, and for zero and chaos

exit status: 0 the goals were kept by a valid run; 1 they were not, or nothing could be run; 2 asked wrongly
"""


def description(options: Mapping[str, str]) -> str:
    """``options``: by the setting that each sets."""
    suites = "\n".join(line for name in SUITES for line in _suite(name, options))
    return f"Load a service and say what its callers feel.\n\nsuites, and their presets:\n{suites}"


def _suite(name: str, options: Mapping[str, str]) -> Iterator[str]:
    suite = SUITES[name]
    yield from textwrap.wrap(suite.about, WIDTH, initial_indent=f"  {name:17}", subsequent_indent=_INDENT)
    preset = " ".join(f"{options[setting]} {_shown(setting, value)}" for setting, value in suite.preset.items())
    whole = {"initial_indent": _INDENT, "subsequent_indent": _INDENT, "break_on_hyphens": False}
    yield from textwrap.wrap(preset, WIDTH, **whole)  # type: ignore[arg-type]


def _shown(setting: str, value: Any) -> str:
    """As somebody would give it."""
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={weight:g}" for name, weight in value.items())
    if isinstance(value, str):
        return value
    if setting.endswith("_s") and not setting.endswith("_per_s"):
        return f"{value / 60:g}m" if value >= 60 and value % 60 == 0 else f"{value:g}s"
    return f"{value:g}"
