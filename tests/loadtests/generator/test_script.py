"""The suite ``zero`` where not all goes as it should: marked, told, and never asked of a model in another tier."""

from __future__ import annotations

from pathlib import Path

from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService
from tests.loadtests.running import load, loaded


def test_a_tier_that_is_not_reached_is_marked_and_not_asked(tmp_path: Path) -> None:
    stubborn = FakeModel(obeys=False)  # it does not go to sleep, as it has no replica
    service = FakeService({"m": stubborn})
    done = loaded(service, tmp_path, "zero", "--passes", "1", "--tiers", "host,gpu")
    assert [(mark["what"], mark["detail"][:6]) for mark in done.run["marks"]] == [
        ("not reached", "m host"),
        ("reached", "m gpu"),
    ]
    assert [row.tag for row in done.rows] == ["gpu"]
    assert "has no replica that could sleep" in done.run["marks"][0]["detail"]
    assert "not reached m host" in done.out
    assert "1 of 2 planned requests were never sent" in done.run["generator"]["reasons"]


def test_a_script_that_takes_longer_than_its_time_ends(tmp_path: Path) -> None:
    service = FakeService({"m": FakeModel(state="ready", gap_s=0.2)})
    done = loaded(service, tmp_path, "zero", "--passes", "50", "--tiers", "gpu", "--duration", "2s")
    assert done.run["marks"][-1]["what"] == "stopped"
    assert f"{50 - len(done.rows)} of 50 planned requests were never sent" in done.run["generator"]["reasons"]
    assert 0 < len(done.rows) < 10
    assert done.run["plan"]["requests"] == 50


def test_without_an_admin_key_nothing_is_run(tmp_path: Path) -> None:
    service = FakeService({"m": FakeModel(state="ready")})
    with service.running():
        done = load(Target(service.target.url, service.target.api_key), tmp_path, "zero", "--passes", "1")
    assert (done.status, done.run, service.asked) == (1, {}, [])
    assert "ROUNDHOUSE_ADMIN_KEY" in done.err
