"""The command line: only what was given changes a suite's preset."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loadtests.load.settings import Settings, SettingsError
from loadtests.options import OF_SUITES, SETTINGS, given, in_options, option_names, parse, seconds
from loadtests.suites import SUITES, plan_of


def found(line: str) -> dict[str, Any]:
    return given(parse(line.split()))


def test_nothing_given_is_nothing_changed() -> None:
    assert found("spike") == {}


def test_what_is_given_has_the_names_of_the_settings() -> None:
    line = "chaos --rate 5 --duration 1m30s --models a,b --dialects chat=3,messages --no-keep-alive --kill-at 500ms"
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
        ("", "name a suite: smoke, steady, .*; or report, compare"),
        ("spik", r"there is no suite 'spik' \(did you mean spike\?\); there are smoke, .*, report, compare"),
        ("moon", "there is no suite 'moon'; there are smoke"),
        ("spike --duration 5x", "must look like 30s"),
        ("spike --duration -5s", "must look like 30s|expected one argument"),
        ("spike --dialects chat=x", "must be like chat=3"),
        ("spike --rat 5", r"unrecognized arguments: --rat 5 \(did you mean --rate\?\)"),
        ("spike more", "unrecognized arguments: more; see --help"),
        ("steady --dialects chat=0", "a weight above 0"),
        ("steady --dialects chat=inf", "must be like chat=3"),
        ("steady --web 70000", "must be a port from 1 to 65535"),
        ("steady --metrics-port 0", "must be a port from 1 to 65535"),
        ("zero --tiers gpu,moon", "must be some of disk, host, gpu"),
        ("chaos --kill moon", "invalid choice: 'moon'"),
        ("steady --kill engine", "--kill is of chaos, not of steady"),
        ("spike --users 3", "--users is of smoke, .*, not of spike"),
        ("zero --rate 3", "--rate is of smoke, .*, not of zero"),
        ("spike --users many", "invalid int value"),
    ],
)
def test_what_cannot_be_is_refused(line: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        parse(line.split())


def test_every_setting_has_an_option_and_the_help_has_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["spike", "--help"])
    shown = capsys.readouterr().out
    names = option_names()
    assert set(SETTINGS) <= set(names)
    assert all(f"  {name} " in shown for name in names.values() if name != "-h")
    assert "  spike            From calm to --factor times" in shown
    assert "--rate 2 --factor 20 --duration 40s" in shown
    assert "--dialects chat=2,completions=1,messages=1" in " ".join(shown.split())
    assert "--tiers disk,host,gpu --passes 3 --duration 10m" in shown
    assert "roundhouse loadtest report RUN" in shown


def test_a_preset_as_the_help_has_it_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    shown = " ".join(capsys.readouterr().out.partition("where and how")[0].split())
    for name, suite in SUITES.items():
        preset = re.search(rf" {name} [A-Z].*?[.?] (--.*?)(?= [a-z-]+ [A-Z]|$)", shown)
        assert preset, name
        assert given(parse([name, *preset[1].split()])) == suite.preset


@pytest.mark.parametrize(("setting", "suites"), OF_SUITES.items())
def test_what_only_some_suites_heed_changes_nothing_elsewhere(setting: str, suites: tuple[str, ...]) -> None:
    other: dict[str, Any] = {"tiers": ("gpu",), "kill": "worker", "trace": "x", "kill_at_s": 1.0}
    for name in set(SUITES) - set(suites) - {"replay"}:
        suite = SUITES[name]
        plain = suite.settings(models=("m",))
        if setting in suite.preset or (setting == "users" and not plain.users):
            continue  # its own
        changed = suite.settings(models=("m",), **{setting: other.get(setting, 3)})
        assert plan_of(changed) == plan_of(plain), name


def test_errors_of_settings_are_told_in_the_words_of_options() -> None:
    assert in_options("rate_per_s must be 0 or more, not -5") == "--rate must be 0 or more, not -5"
    assert in_options("trace: x is empty") == "--trace: x is empty"
    assert in_options("nobody arrives in this time") == "nobody arrives in this time"
