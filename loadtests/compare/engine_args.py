"""vLLM's engine arguments as each of those that start an engine wants them: words, a dictionary, a card."""

from __future__ import annotations

import re
from collections.abc import Mapping

EngineArgs = Mapping[str, str | int | float | bool]
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def engine_args(text: str) -> EngineArgs:
    """``enforce_eager,max_model_len=1024``. Raises ValueError."""
    found: dict[str, str | int | float | bool] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not _NAME.fullmatch(name) or (equals and not value):
            raise ValueError(f"must be like enforce_eager,max_model_len=1024, not {part!r}")
        found[name] = _value(value) if equals else True
    return found


def words(args: EngineArgs) -> list[str]:
    """For vLLM's command line."""
    found: list[str] = []
    for name, value in args.items():
        option = name.replace("_", "-")
        if value is True:
            found.append(f"--{option}")
        elif value is False:
            found.append(f"--no-{option}")
        else:
            found += [f"--{option}", str(value)]
    return found


def context_of(args: EngineArgs) -> int | None:
    """Tokens; None: the model's own."""
    told = args.get("max_model_len")
    return told if isinstance(told, int) and told > 0 else None


def _value(text: str) -> str | int | float | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
