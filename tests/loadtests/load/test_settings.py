"""Settings are read, checked, and written as they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadtests.load.settings import Settings, SettingsError, checked, decode, encode


def test_they_survive_their_file() -> None:
    settings = Settings(suite="spike", models=("a", "b"), dialects={"chat": 2.0}, salt="x")
    assert decode(encode(settings)) == settings


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"duration_s": 0.0}, "duration_s must be above 0"),
        ({"duration_s": float("nan")}, "duration_s must be above 0"),
        ({"rate_per_s": -1.0}, "rate_per_s must be 0 or more"),
        ({"turns": 0}, "turns must be at least 1"),
        ({"unstreamed": 1.5}, "unstreamed must be from 0 to 1"),
        ({"rate_per_s": 1.0, "users": 2}, "not both"),
        ({"prompt_tokens": "many"}, "prompt_tokens: 'many' is none of"),
        ({"output_tokens": "fixed:-1"}, "output_tokens: "),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(given: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        checked(msgspec.structs.replace(Settings(), **given))


@pytest.mark.parametrize("document", [b"", b"[]", b'{"what": 1}', b'{"users": "many"}'])
def test_a_file_of_something_else_is_refused(document: bytes) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        decode(document)
