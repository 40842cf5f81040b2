"""Settings are read, checked, and written as they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.load.settings import (
    _ABOVE_0,
    _FROM_0,
    _FROM_1,
    _SHARES,
    Settings,
    SettingsError,
    checked,
    decode,
    encode,
)


def test_they_survive_their_file() -> None:
    settings = Settings(suite="spike", models=("a", "b"), dialects={"chat": 2.0}, salt="x")
    assert decode(encode(settings)) == settings


@pytest.mark.parametrize(
    ("asked", "why"),
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
def test_what_cannot_be_is_refused_by_its_name(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        checked(msgspec.structs.replace(Settings(), **asked))


@pytest.mark.parametrize("document", [b"", b"[]", b'{"what": 1}', b'{"users": "many"}'])
def test_a_file_of_something_else_is_refused(document: bytes) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        decode(document)


numbers = st.floats(0.001, 1e6)
some = st.builds(
    Settings,
    suite=st.sampled_from(["smoke", "spike", "replay"]), seed=st.integers(0, 2**40), salt=st.text(max_size=8),
    duration_s=numbers, factor=numbers, speed=numbers, models=st.lists(st.text(max_size=9), max_size=4).map(tuple),
    contexts=st.dictionaries(st.text(max_size=9), st.integers(1, 10**6), max_size=3), unstreamed=st.floats(0, 1),
    dialects=st.dictionaries(st.sampled_from(["chat", "messages"]), st.floats(0, 9)), turns=st.integers(1, 9),
    prompt_tokens=st.sampled_from(["fixed:3", "uniform:1-9", "lognormal:mean=9,cv=1"]), keep_alive=st.booleans(),
)  # fmt: skip


@given(some)
def test_any_settings_survive_their_file(settings: Settings) -> None:
    assert decode(encode(settings)) == settings


def test_a_file_is_checked_when_it_is_read() -> None:
    with pytest.raises(SettingsError, match="users must be 0 or more"):
        decode(b'{"users": -1}')
    with pytest.raises(SettingsError, match="prompt_tokens: "):
        decode(b'{"prompt_tokens": "fixed"}')


@pytest.mark.parametrize("name", [*_ABOVE_0, *_FROM_0, *_FROM_1, *_SHARES])
def test_every_number_has_its_bounds(name: str) -> None:
    for value in (-1, float("inf") if name not in _FROM_1 else 0, float("nan")):
        with pytest.raises(SettingsError, match=f"{name} must be "):
            checked(msgspec.structs.replace(Settings(), **{name: value}))


def test_every_number_that_is_a_setting_has_bounds() -> None:
    bounded = {*_ABOVE_0, *_FROM_0, *_FROM_1, *_SHARES}
    numeric = {
        field.name for field in msgspec.structs.fields(Settings) if field.type in (int, float) and field.name != "seed"
    }
    assert bounded == numeric
