from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtests.chaos import service as chaos_service
from loadtests.chaos.census import Process
from loadtests.chaos.service import ChaosService
from loadtests.coldstart.service import ServiceFailed
from loadtests.target import Target
from tests.loadtests.chaos.town import FakeCensus, Town


class FakeOwn:
    """``roundhouse up`` and ``down``, with the town in the service's place."""

    def __init__(self, home: Path, port: int, config: Path, town: Town) -> None:
        assert port > 0
        self.home, self.config, self.town = home, config, town
        self.downs = 0

    def up(self, model: str) -> tuple[Target, float]:
        assert model == "steady"
        (self.home / "run").mkdir(exist_ok=True)
        (self.home / "run" / "service.json").write_text(json.dumps({"instance": "abc", "home": str(self.home)}))
        return self.town.target, 1.0

    def down(self) -> None:
        self.downs += 1


@pytest.fixture
def service(
    tmp_path: Path, town: Town, census: FakeCensus, of_kind: Callable[[str], Process], monkeypatch: pytest.MonkeyPatch
) -> ChaosService:
    def make_census(instance: str, logs: Path) -> FakeCensus:
        assert (instance, logs) == ("abc", tmp_path / "home" / "logs" / "engines")
        return census

    def make_own(home: Path, port: int, config: Path) -> Any:
        return FakeOwn(home, port, config, town)

    census.others = [of_kind("redis")]
    monkeypatch.setattr(chaos_service, "make_models", lambda root, names: {name: root / name for name in names})
    monkeypatch.setattr(chaos_service, "OwnService", make_own)
    monkeypatch.setattr(chaos_service, "Census", make_census)
    monkeypatch.setattr(chaos_service, "QUIET_S", 0.1)
    monkeypatch.setattr(chaos_service, "LOOK_S", 0.01)
    return ChaosService(tmp_path / "home")


def own(service: ChaosService) -> FakeOwn:
    made: Any = service._own
    assert isinstance(made, FakeOwn)
    return made


def test_it_serves_the_scene(service: ChaosService, tmp_path: Path) -> None:
    written = json.loads((tmp_path / "home" / "chaos.yaml").read_text())
    assert {card["model_source"] for card in written["models"]} == {str(tmp_path / "home" / "models" / "tiny-llama")}


def test_it_is_started_when_it_is_first_wanted_and_again_after_it_was_taken_down(service: ChaosService) -> None:
    assert service.starts == 0
    first = service.up()
    assert first.before == {"engine": 2, "redis": 1}
    assert service.up() is first
    assert service.starts == 1
    service.down()
    assert service.up() is not first
    assert service.starts == 2


def test_what_is_left_of_it_is_told(service: ChaosService, census: FakeCensus, town: Town) -> None:
    assert service.down() == (), "it never ran"
    service.up()
    town.replicas = {}
    assert [process.kind for process in service.down()] == ["redis"]
    assert service.down() == ()


def test_one_that_does_not_come_to_rest_is_not_used(
    service: ChaosService, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_service, "SETTLE_S", 0.1)
    town.replicas = {"steady-1": "ready", "steady-2": "starting"}
    with pytest.raises(ServiceFailed, match="does not come to rest"):
        service.up()
    assert own(service).downs == 1, "and it does not go on running"
