"""Reads the fields of a request's body; what is wrong is told with the field's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.runtimes.torch.api import ApiError


def text_of(fields: Mapping[str, Any], name: str, most_characters: int | None = None) -> str:
    """A text that is there and not empty. Raises ApiError."""
    value = fields.get(name)
    if value is None:
        raise ApiError(400, f"`{name}` is missing", name)
    if not isinstance(value, str) or not value.strip():
        raise ApiError(400, f"`{name}` must be a text, and not empty", name)
    if most_characters is not None and len(value) > most_characters:
        raise ApiError(400, f"`{name}` has {len(value)} characters, at most {most_characters} are taken", name)
    return value


def texts_of(fields: Mapping[str, Any], name: str, most: int) -> list[str]:
    """A text or a list of texts, always as a list that is not empty. Raises ApiError."""
    value = fields.get(name)
    if value is None:
        raise ApiError(400, f"`{name}` is missing", name)
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not given:
        raise ApiError(400, f"`{name}` must be a text or a list of texts, and not empty", name)
    if len(given) > most:
        raise ApiError(400, f"`{name}` has {len(given)} items, at most {most} are taken", name)
    for index, item in enumerate(given):
        if not isinstance(item, str) or not item.strip():
            raise ApiError(400, f"`{name}[{index}]` must be a text, and not empty", name)
    return given


def choice_of(fields: Mapping[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    """One of ``choices``; the default where there is none. Raises ApiError."""
    value = fields.get(name)
    if value is None:
        return default
    if value not in choices:
        raise ApiError(400, f"`{name}` must be {' or '.join(choices)}", name)
    return str(value)


def whole_of(fields: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """A whole number within bounds; the default where there is none. Raises ApiError."""
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not int or not least <= value <= most:
        raise ApiError(400, f"`{name}` must be a whole number from {least} to {most}", name)
    return value


def number_of(fields: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    """A number within bounds; the default where there is none. Raises ApiError."""
    value = fields.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not least <= value <= most:
        raise ApiError(400, f"`{name}` must be a number from {least:g} to {most:g}", name)
    return float(value)


def flag_of(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """True or false; the default where there is neither. Raises ApiError."""
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ApiError(400, f"`{name}` must be true or false", name)
    return value
