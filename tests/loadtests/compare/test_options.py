"""``compare``'s command line: what is compared besides what one run asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.compare.options import Asked, parse
from loadtests.compare.startable import STARTABLE
from loadtests.load.settings import SettingsError
from loadtests.options import given

HERE, THERE = "http://127.0.0.1:8000", "http://127.0.0.1:8001"


def asked(line: str) -> Asked:
    return parse(line.split())


def test_targets_have_names_and_the_suite_its_options() -> None:
    found = asked(f"steady --targets roundhouse={HERE},vllm={THERE} --rate 5 --passes 2 --json")
    assert found.targets == {"roundhouse": HERE, "vllm": THERE}
    assert (found.passes, found.as_json, found.start) == (2, True, ())
    assert found.suite.suite == "steady"
    assert given(found.suite) == {"rate_per_s": 5.0}


def test_what_is_started_is_told_what_its_engines_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS", "/peers")
    found = asked("spike --start plain-vllm,litellm --weights /models/m --engine-args max_model_len=2048")
    assert found.start == ("plain-vllm", "litellm")
    assert (found.peers, found.weights) == (Path("/peers"), Path("/models/m"))
    assert found.engine_args == {"max_model_len": 2048}
    assert asked("spike --start plain-vllm --peers p").peers == Path("p")
    assert asked("spike --start plain-vllm").engine_args == {"enforce_eager": True, "max_model_len": 1024}


def test_options_may_come_before_the_suite() -> None:
    assert asked("--rate 3 --targets a=http://localhost:1 --json steady").suite.rate_per_s == 3.0


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("steady", "name what is to be compared"),
        ("steady --start plain-vlm", "must be some of roundhouse, plain-vllm"),
        ("steady --start plain-vllm,plain-vllm", "each once"),
        (f"steady --targets {HERE}", "must be like roundhouse="),
        (f"steady --targets a={HERE},a={THERE}", "each name once"),
        (f"steady --targets A={HERE}", "must be like"),
        ("steady --targets a=", "must be like"),
        (f"steady --targets litellm={HERE} --start litellm", "named in --targets and in --start"),
        (f"steady --targets a={HERE} --target {THERE}", "--target is of one run"),
        (f"steady --targets a={HERE} --web 80", "--web is of one run"),
        (f"steady --targets a={HERE} --metrics-port 80", "--metrics-port is of one run"),
        (f"steady --targets a={HERE} --passes 0", "must be a number from 1 on"),
        (f"steady --targets a={HERE} --engine-args --x", "expected one argument"),
        (f"steady --targets a={HERE} --engine-args X=1", "must be like enforce_eager"),
        (f"zero --targets a={HERE}", "zero orders a Roundhouse about"),
        (f"chaos --targets a={HERE}", "chaos orders a Roundhouse about"),
        (f"--targets a={HERE}", "name a suite"),
        (f"steady --targets a={HERE} --bogus", "unrecognized arguments: --bogus"),
    ],
)
def test_what_cannot_be_is_refused(line: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        asked(line)


def test_help_names_all_that_can_be_started(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        asked("--help")
    assert ended.value.code == 0
    told = "".join(capsys.readouterr().out.split())  # it is wrapped, at hyphens too
    assert all(name in told for name in STARTABLE)
    assert "NAME_API_KEY" in told
