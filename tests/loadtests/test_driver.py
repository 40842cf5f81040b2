"""What Locust is started with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtests.driver import command, settle, tenants
from loadtests.load.settings import Settings
from loadtests.options import parse
from loadtests.surroundings import environment_of, target_of
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService


def words(line: str, **settings: object) -> list[str]:
    options = parse(line.split())
    return command(options, Settings(suite=options.suite, **settings), Path("/out"))  # type: ignore[arg-type]


def test_a_suite_is_its_locustfile() -> None:
    found = words("many-models")
    assert found[found.index("-f") + 1].endswith("loadtests/locustfiles/many_models.py")
    assert found[found.index("--suite-settings") + 1] == "/out/settings.json"
    assert "--headless" in found
    assert not {"--processes", "--suite-slo", "--web-port", "--suite-quiet"} & set(found)


def test_workers_talk_on_loopback_alone() -> None:
    found = words("steady", workers=3)
    assert found[found.index("--processes") + 1] == "3"
    assert found[found.index("--master-bind-host") + 1] == found[found.index("--master-host") + 1] == "127.0.0.1"
    assert found[found.index("--master-bind-port") + 1] == found[found.index("--master-port") + 1] != "5557"


def test_locusts_page_is_on_loopback_too() -> None:
    found = words("steady --web 9000 --metrics-port 9001 --slo goals.yaml --quiet")
    assert found[found.index("--web-host") + 1] == "127.0.0.1"
    assert found[found.index("--web-port") + 1] == "9000"
    assert found[found.index("--suite-metrics-port") + 1] == "9001"
    assert found[found.index("--suite-slo") + 1] == str(Path("goals.yaml").absolute())
    assert "--headless" not in found


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith("ROUNDHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path))
    return tmp_path


def test_settings_are_settled_before_locust_is_started(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeService({"m": FakeModel(context=64)}).running() as service:
        for name, value in service.target.environment().items():
            monkeypatch.setenv(name, value)
        one, target = settle(parse(["zero", "--workers", "4"]))
        other, _ = settle(parse(["zero", "--salt", "mine"]))
    assert target == service.target
    assert (one.models, one.contexts, one.workers) == (("m",), {"m": 64}, 1)  # a script is one worker's
    assert one.salt != other.salt == "mine"


def test_a_neighbour_without_an_admin_key_has_no_key_of_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(suite="noisy-neighbour")
    with tenants(settings, Target("http://127.0.0.1:1")) as keys:
        assert keys == {}
    monkeypatch.setenv("ROUNDHOUSE_NOISY_KEY", "theirs")
    with tenants(settings, Target("http://127.0.0.1:1", admin_key="a")) as keys:
        assert keys == {}  # it has that one


def test_what_is_told_of_the_target_and_of_this_machine() -> None:
    with FakeService({}).running() as service:
        shown = target_of(service.target)
        assert (shown["service"], shown["version"], shown["simulated"]) == ("roundhouse", "0.0", True)
        assert target_of(Target(service.target.url))["service"] == "other"
    assert set(environment_of()) == {"machine", "versions"}
