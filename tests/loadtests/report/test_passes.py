"""The same load to an engine and through a service, in turns."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.coldstart.admin import Admin
from loadtests.driver import NoRun
from loadtests.load.settings import Settings, SettingsError
from loadtests.outcome.document import read
from loadtests.report import passes
from loadtests.report.engine import direct_target, engine_of, fresh
from loadtests.report.passes import read_pairs, run_pairs, sides, the_model
from loadtests.target import Target, TargetError
from tests.loadtests.fake_service import API_KEY, FakeModel, FakeService
from tests.loadtests.running import load


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService({"m": FakeModel(state="ready", timing="auth;dur=0.1, engine-ttfb;dur=0.2")}).running() as found:
        yield found


@pytest.fixture
def engine() -> Iterator[FakeService]:
    with FakeService({"m": FakeModel(state="ready")}, check_keys=False).running() as found:
        yield found


def test_neither_side_is_always_the_first() -> None:
    assert [sides(number)[0] for number in (1, 2, 3, 4)] == ["direct", "through", "direct", "through"]


def test_both_sides_are_asked_the_same_at_the_same_times(
    service: FakeService, engine: FakeService, tmp_path: Path
) -> None:
    words = ["steady", "--rate", "25", "--duration", "1s", "--pairs", "2", "--quiet", "--output-tokens", "fixed:4"]
    done = load(service.target, tmp_path, *words, "--direct", engine.target.url)
    assert "report.html" in done.err, done.err
    pairs, base = read_pairs(tmp_path / "out")
    runs = [[read(file) for file in side] for side in pairs.files(base)]
    assert {run["plan"]["digest"] for side in runs for run in side} == {runs[0][0]["plan"]["digest"]}
    assert [run["target"]["url"] for side in runs for run in side] == [engine.target.url] * 2 + [service.target.url] * 2
    assert len({run["settings"]["salt"] for side in runs for run in side}) == 4
    assert len(service.asked) == len(engine.asked)
    asked = len(engine.asked) // (2 + len(pairs.left_out)) - passes.WARM_REQUESTS
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["kind"], report["paired"], report["pairs"]) == ("cost", True, 2 * asked)
    assert done.status == (0 if report["verdict"]["valid"] else 1)


def test_an_engine_never_sees_the_services_key(service: FakeService, engine: FakeService, tmp_path: Path) -> None:
    words = ["steady", "--rate", "9", "--duration", "1s", "--pairs", "1", "--quiet"]
    load(service.target, tmp_path, *words, "--direct", engine.target.url)
    assert set(service.told_keys) == {API_KEY}
    assert API_KEY not in engine.told_keys


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(suite="steady", direct="auto", **given)


class Stage:
    """Runs are none here. ``bad``: names of runs that are not valid; ``ends``: in which somebody presses Ctrl-C."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: str = "none", ends: str = "none") -> None:
        self.asked: list[str] = []
        self.warmed = 0
        self.bad, self.ends = bad, ends
        target = Target("http://127.0.0.1:1")
        settings = Settings(suite="steady", models=("m",), rate_per_s=9.0)
        monkeypatch.setattr(passes, "settle", lambda options: (settings, target))
        monkeypatch.setattr(passes, "_target", lambda *_: target)
        monkeypatch.setattr(passes, "run_once", self.run)
        monkeypatch.setattr(passes, "first_token_s", self.warm)

    def warm(self, target: Target, model: str) -> float:
        self.warmed += 1
        return 0.0

    def run(self, options: object, settings: Settings, target: Target, out: Path) -> dict[str, Any]:
        self.asked.append(out.name)
        if out.name == self.ends:
            os.kill(os.getpid(), signal.SIGINT)
        bad = out.name.startswith(self.bad)
        health = {"valid": not bad, "reasons": ["a core was full"] * bad}
        return {"generator": health, "summary": {"answered": 1, "errors": []}}


def test_a_pass_that_is_not_valid_is_run_again_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the one that it stands for: else the engine would be the first in both passes that count."""
    stage = Stage(monkeypatch, bad="2-d")
    pairs, _ = read_pairs(run_pairs(options(pairs=2, out=tmp_path), ["steady"]))
    assert stage.asked == ["1-direct", "1-through", "2-through", "2-direct", "3-through", "3-direct"]
    assert pairs.through == ["1-through/run.json", "3-through/run.json"]
    assert pairs.left_out == [2]
    assert stage.warmed == 6 * passes.WARM_REQUESTS
    assert "not valid, once more: direct: a core was full" in "".join(capsys.readouterr())


def test_ctrl_c_ends_it_with_the_passes_that_are_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = Stage(monkeypatch, ends="2-through")
    pairs, _ = read_pairs(run_pairs(options(pairs=5, out=tmp_path), ["steady"]))
    assert (stage.asked, pairs.direct) == (["1-direct", "1-through", "2-through"], ["1-direct/run.json"])


def test_ctrl_c_in_the_first_pass_leaves_nothing_to_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Stage(monkeypatch, ends="1-direct")
    with pytest.raises(NoRun, match="before the first pass was whole"):
        run_pairs(options(pairs=5, out=tmp_path), ["steady"])
    assert not (tmp_path / "pairs.json").exists()


def test_what_fails_while_it_warms_up_is_for_the_runs_own_figures(service: FakeService) -> None:
    passes._warm(Target("http://127.0.0.1:9"), ["m"])
    passes._warm(service.target, ["m"])
    assert len(service.asked) == passes.WARM_REQUESTS


def test_an_engine_serves_one_model_and_takes_no_orders() -> None:
    assert the_model(Settings(suite="steady", models=("m",), rate_per_s=5.0)) == "m"
    with pytest.raises(SettingsError, match=r"--models a\|b"):
        the_model(Settings(suite="steady", models=("a", "b"), rate_per_s=5.0))
    for suite, more in (
        ("zero", {"tiers": ("disk",)}),
        ("chaos", {"kill": "engine", "kill_at_s": 1.0, "rate_per_s": 5.0}),
    ):
        with pytest.raises(SettingsError, match="gives orders to the service"):
            the_model(Settings(suite=suite, models=("m",), duration_s=9.0, **more))


def test_no_passes_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(suite="steady", models=("m",), rate_per_s=9.0)
    monkeypatch.setattr(passes, "settle", lambda options: (settings, Target("http://127.0.0.1:1")))
    with pytest.raises(SettingsError, match="--pairs must be at least 1"):
        run_pairs(options(pairs=0, out=tmp_path), [])


def replicas(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, str]) -> None:
    rows = [{"replica_id": f"m-{number}", "model_id": "m", "state": state, "endpoint": endpoint}
            for number, (state, endpoint) in enumerate(found)]  # fmt: skip
    monkeypatch.setattr(Admin, "replicas", lambda self, model=None: rows)


def test_the_engine_is_found_where_its_first_ready_replica_listens(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = f"/tmp/rh-engine-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        try:
            replicas(monkeypatch, ("starting", f"unix:{path}"), ("ready", "unix:/nowhere"), ("ready", f"unix:{path}"))
            assert engine_of(Admin(service.target), "m") == f"unix:{path}"
        finally:
            os.unlink(path)
    assert service.orders == ["wake m"]


def test_where_no_replica_listens_here_the_cure_is_named(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    replicas(monkeypatch, ("ready", "unix:/nowhere"))
    with pytest.raises(TargetError, match="name an engine: --direct URL"):
        engine_of(Admin(service.target), "m")
    with pytest.raises(TargetError, match="ROUNDHOUSE_ADMIN_KEY"):
        engine_of(Admin(Target(service.target.url)), "m")


def test_an_engine_must_serve_the_model_and_be_here(service: FakeService, engine: FakeService) -> None:
    found = direct_target(engine.target.url, service.target, "m")
    assert (found.url, found.api_key, found.admin_key) == (engine.target.url, "", "")
    with pytest.raises(TargetError, match="serves m, not other"):
        direct_target(engine.target.url, service.target, "other")
    with pytest.raises(TargetError, match="--allow-remote"):
        direct_target("http://192.0.2.1:1", service.target, "m")


def test_an_engine_that_wants_a_key_has_its_own(
    engine: FakeService, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DIRECT_KEY", "sk-engine")
    assert direct_target(engine.target.url, service.target, "m").api_key == "sk-engine"


def test_an_engine_that_does_not_tell_what_it_serves_is_told_with_a_cure(service: FakeService) -> None:
    with pytest.raises(TargetError, match=r"nothing answers at http://127\.0\.0\.1:9 .*start the engine first"):
        direct_target("http://127.0.0.1:9", service.target, "m")
    with pytest.raises(TargetError, match=r"answered 401.*its key is read from ROUNDHOUSE_DIRECT_KEY"):
        direct_target(service.target.url, service.target, "m")


def test_a_fresh_replica_is_one_that_was_begun_now(service: FakeService) -> None:
    fresh(Admin(service.target), "m")
    assert service.orders == ["stop m", "wake m"]
