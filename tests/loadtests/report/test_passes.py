"""The same load to an engine and through a service, in turns."""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.coldstart.admin import Admin
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
    asked = len(engine.asked) // (2 + len(pairs.left_out))
    assert len(service.asked) == len(engine.asked) == asked * (2 + len(pairs.left_out)) > 0
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


def test_a_pass_that_is_not_valid_is_run_again_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def run_once(options: object, settings: Settings, target: Target, out: Path) -> dict[str, Any]:
        asked.append(out.name)
        return {"generator": {"valid": not out.name.startswith("2-d")}, "summary": {"answered": 1, "errors": []}}

    target = Target("http://127.0.0.1:1")
    monkeypatch.setattr(
        passes, "settle", lambda options: (Settings(suite="steady", models=("m",), rate_per_s=9.0), target)
    )
    monkeypatch.setattr(passes, "_target", lambda *_: target)
    monkeypatch.setattr(passes, "run_once", run_once)
    pairs, _ = read_pairs(run_pairs(options(pairs=2, out=tmp_path), ["steady"]))
    assert asked == ["1-direct", "1-through", "2-through", "2-direct", "3-direct", "3-through"]
    assert pairs.through == ["1-through/run.json", "3-through/run.json"]
    assert pairs.left_out == [2]


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


def test_a_fresh_replica_is_one_that_was_begun_now(service: FakeService) -> None:
    fresh(Admin(service.target), "m")
    assert service.orders == ["stop m", "wake m"]
