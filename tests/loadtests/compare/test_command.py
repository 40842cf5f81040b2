"""``python -m loadtests compare`` end to end, with real runs of Locust against services on loopback."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtests.__main__ import main
from loadtests.outcome.document import read
from loadtests.target import Target
from loadtests.wire import NotReachable, get_json
from tests.loadtests.fake_service import API_KEY, FakeModel, FakeService
from tests.loadtests.running import command, environment

LOAD = ("--rate", "10", "--duration", "1s", "--quiet")


def chatty(**given: Any) -> FakeModel:
    return FakeModel(**{"state": "ready", "gap_s": 0.002, **given})


def compared(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("compare", *words), env=environment(home) | environ, cwd=home, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def urls(**services: FakeService) -> str:
    return ",".join(f"{name}={service.target.url}" for name, service in services.items())


def test_two_services_are_asked_the_same_in_turns_and_stand_in_one_table(tmp_path: Path) -> None:
    ours = FakeService({"m": chatty(), "only-ours": chatty()})
    theirs = FakeService({"m": chatty(runtime=None, delays_s=(0.2, 0.0, 0.0, 0.0))}, check_keys=False)
    words = ("steady", "--targets", urls(roundhouse=ours, vllm=theirs), "--passes", "2", "--out", "out", *LOAD)
    with ours.running(), theirs.running():
        done = compared(tmp_path, *words, ROUNDHOUSE_API_KEY=API_KEY)
    made = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert done.returncode == (0 if made["ok"] else 1), done.stderr  # a busy machine's runs may not be valid
    assert made["missing"] == {}
    one, other = made["targets"]
    assert one["figures"]["requests"] == other["figures"]["requests"] > 0
    assert one["figures"]["failed"] == other["figures"]["failed"] == 0
    assert other["figures"]["ttft_ms"]["p50"] - one["figures"]["ttft_ms"]["p50"] > 100
    assert len(made["plan"]) == 1
    assert [read(tmp_path / "out" / f"{name}-{number}" / "run.json")["plan"]["digest"]
            for name in ("roundhouse", "vllm") for number in (1, 2)] == made["plan"] * 4  # fmt: skip
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[1:4]] == ["target", "roundhouse", "vllm"]
    assert "| vllm |" in (tmp_path / "out" / "comparison.md").read_text()
    turns = [line for line in done.stderr.splitlines() if line.startswith("pass")]
    assert [turn.rpartition(" ")[2] for turn in turns] == ["roundhouse", "vllm", "vllm", "roundhouse"]
    assert set(theirs.told_keys) == {"None"}, "nobody is told another one's key"


def test_a_missed_goal_is_a_failure_that_says_whose(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text("ttft_ms: {p50: 100}\n")
    fast, slow = FakeService({"m": chatty()}), FakeService({"m": chatty(delays_s=(0.3, 0.0, 0.0, 0.0))})
    words = ("steady", "--targets", urls(fast=fast, slow=slow), "--passes", "1", "--slo", "slo.yaml", "--json", *LOAD)
    with fast.running(), slow.running():
        done = compared(tmp_path, *words, FAST_API_KEY=API_KEY, SLOW_API_KEY=API_KEY)
    assert done.returncode == 1
    made = json.loads(done.stdout)
    assert [target["kept"] for target in made["targets"]] == [True, False]
    assert [missed["what"] for missed in made["targets"][1]["missed"]] == ["ttft_ms.p50"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith(("ROUNDHOUSE_", "PEERS"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("loadtests.compare.startable._no_vllm", lambda _peers=None: None)
    return tmp_path


def told(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(["compare", *words])
    return status, *capfd.readouterr()


@pytest.mark.usefixtures("tiny_vllm")
def test_what_is_started_is_measured_and_gone(
    here: Path, weights: Path, peers: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The proxy hands whole answers on: nothing is streamed, so that it changes no text."""
    words = ["steady", "--start", "plain-vllm,litellm", "--peers", str(peers), "--weights", str(weights)]
    status, _, err = told([*words, "--passes", "1", "--unstreamed", "1", "--out", str(here / "out"), *LOAD], capfd)
    made = json.loads((here / "out" / "comparison.json").read_text())
    assert made["missing"] == {}, err
    assert status == (0 if made["ok"] else 1)
    assert [target["name"] for target in made["targets"]] == ["plain-vllm", "litellm"]
    assert made["settings"]["models"] == ["llama"]
    assert made["settings"]["contexts"] == {"llama": 1024}
    assert made["settings"]["whole_length"], "the same work for everyone"
    assert all(target["figures"]["failed"] == 0 for target in made["targets"])
    for target in made["targets"]:
        with pytest.raises(NotReachable):
            get_json(Target(target["target"]["url"]), "/v1/models")


@pytest.mark.parametrize(
    ("words", "status", "lines"),
    [
        (["steady", "--start", "litellm,vllm-router"], 1, [
            "error: litellm: no folder of peers named (--peers DIR; `make bench-peers PEERS=DIR` fills it)",
            "error: vllm-router: no folder of peers named (--peers DIR; `make bench-peers PEERS=DIR` fills it)",
        ]),
        (["steady", "--start", "litellm", "--peers", "/none"], 1, [
            "error: litellm: not installed in /none; `make bench-peers PEERS=/none` does it",
        ]),
        (["steady", "--start", "plain-vllm", "--weights", "/none"], 1, [
            "error: --weights /none: /none is no folder of a model (no config.json in it)",
        ]),
        (["steady", "--start", "plain-vllm", "--models", "a,b", "--weights", "/none"], 2, [
            "error: what is started serves one model: name one in --models, not several",
        ]),
        (["steady", "--targets", "a=http://192.0.2.1:1"], 1, [
            "error: a: http://192.0.2.1:1 is not this machine; --allow-remote loads it all the same",
        ]),
        (["steady"], 2, None),
        (["steady", "--targets", "a=http://127.0.0.1:9", "--slo", "/none"], 2, None),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("here")
def test_what_cannot_be_compared_is_told_before_anything_runs(
    words: list[str], status: int, lines: list[str] | None, capfd: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = told(words, capfd)
    assert (ended, out) == (status, "")
    assert err.startswith("error: ")
    assert lines is None or err.splitlines() == lines
    ended, out, _ = told([*words, "--json"], capfd)
    document = json.loads(out)["error"]
    assert (ended, document["code"]) == (status, {1: "no_comparison", 2: "usage"}[status])


@pytest.mark.usefixtures("here")
def test_goals_of_one_gateways_cost_are_not_a_comparisons(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "slo.yaml").write_text("added_ttft_ms: {p50: 2}\n")
    words = ["steady", "--targets", "vllm=http://127.0.0.1:9", "--slo", str(tmp_path / "slo.yaml")]
    status, _, err = told(words, capfd)
    assert status == 2
    assert "added_ttft_ms is the cost over the engine itself: it takes --direct" in err


@pytest.mark.usefixtures("here")
def test_a_trace_that_is_none_is_told_before_anything_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    service = FakeService({"m": chatty()}, check_keys=False)
    with service.running():
        words = ["replay", "--targets", urls(vllm=service), "--trace", str(tmp_path / "none.csv")]
        status, _, err = told(words, capfd)
        assert (status, service.asked) == (2, [])
    assert "none.csv" in err


@pytest.mark.usefixtures("here")
def test_who_cannot_be_reached_is_told_with_a_cure(capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = told(["steady", "--targets", "vllm=http://127.0.0.1:9"], capfd)
    assert status == 1
    assert err.startswith("error: vllm: nothing answers at http://127.0.0.1:9")
