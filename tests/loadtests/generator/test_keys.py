"""Whose key a request carries, and that two tenants with one are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.generator.keys import keys_of, shared, tenants_of
from loadtests.suites import SUITES, plan_of
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService
from tests.loadtests.running import load

TARGET = Target("http://127.0.0.1:9", "sk-quiet")


def test_everyone_has_the_targets_key_and_the_noisy_one_his_own_where_there_is_one() -> None:
    assert keys_of(TARGET, {}) == {"": "sk-quiet", "quiet": "sk-quiet", "noisy": "sk-quiet"}
    assert keys_of(TARGET, {"noisy": "sk-noisy"})["noisy"] == "sk-noisy"
    assert tenants_of({"ROUNDHOUSE_NOISY_KEY": "sk-noisy"}.get) == {"noisy": "sk-noisy"}
    assert tenants_of(lambda name, default: default) == {}


@pytest.mark.parametrize(
    ("suite", "tenants", "one_key"),
    [("noisy-neighbour", {}, True), ("noisy-neighbour", {"noisy": "sk-noisy"}, False), ("steady", {}, False)],
)
def test_whether_the_tenants_can_be_told_apart(suite: str, tenants: dict[str, str], one_key: bool) -> None:
    settings = SUITES[suite].settings(models=("m",), duration_s=12.0)
    assert shared(plan_of(settings), keys_of(TARGET, tenants)) is one_key


def test_neighbours_with_one_key_are_told_so(tmp_path: Path) -> None:
    with FakeService({"m": FakeModel(state="ready")}).running() as service:
        target = Target(service.target.url, service.target.api_key)  # no admin's key: none can be made
        done = load(target, tmp_path, "noisy-neighbour", "--rate", "8", "--factor", "2", "--duration", "3s")
    assert [mark["what"] for mark in done.run["marks"]] == ["one key"]
    assert "quiet and noisy call with the same key" in done.out
