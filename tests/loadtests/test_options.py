"""The command line: only what was given changes a suite's preset."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.load.settings import Settings, SettingsError
from loadtests.options import SETTINGS, given, parse, seconds


def found(line: str) -> dict[str, Any]:
    return given(parse(line.split()))


def test_nothing_given_is_nothing_changed() -> None:
    assert found("spike") == {}


def test_what_is_given_has_the_names_of_the_settings() -> None:
    line = "steady --rate 5 --duration 1m30s --models a,b --dialects chat=3,messages --no-keep-alive --kill-at 500ms"
    assert found(line) == {
        "rate_per_s": 5.0,
        "duration_s": 90.0,
        "models": ("a", "b"),
        "dialects": {"chat": 3.0, "messages": 1.0},
        "keep_alive": False,
        "kill_at_s": 0.5,
    }
    assert set(SETTINGS) <= set(Settings.__struct_fields__)


def test_where_it_goes_is_no_setting() -> None:
    options = parse(["smoke", "--target", "http://127.0.0.1:1", "--out", "x", "--web", "--quiet", "--json"])
    assert given(options) == {}
    assert (options.target, str(options.out), options.web) == ("http://127.0.0.1:1", "x", 8089)


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h1m1s", 3661), ("250ms", 0.25), ("0s", 0)]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "required: SUITE"),
        ("spik", "invalid choice: 'spik'"),
        ("spike --duration 5x", "must look like 30s"),
        ("spike --duration -5s", "must look like 30s|expected one argument"),
        ("spike --dialects chat=x", "must be like chat=3"),
        ("spike --rat 5", "unrecognized arguments"),
        ("spike --users many", "invalid int value"),
    ],
)
def test_what_cannot_be_is_refused(line: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        parse(line.split())
