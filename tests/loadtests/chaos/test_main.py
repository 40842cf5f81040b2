from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from loadtests.chaos import __main__ as chaos
from loadtests.chaos.census import Process
from loadtests.chaos.faults import FAULTS
from loadtests.chaos.moments import MOMENTS
from loadtests.chaos.recovery import Recovered
from loadtests.chaos.service import ChaosService
from loadtests.wire import CallFailed
from tests.loadtests.chaos.results import result


class FakeService:
    """``broken_after``: the cell after which nothing works any more. ``left``: what its end leaves behind."""

    def __init__(self, left: tuple[Process, ...] = ()) -> None:
        self.left = left
        self.downs = 0

    def down(self) -> tuple[Process, ...]:
        self.downs += 1
        return self.left


def playing(monkeypatch: pytest.MonkeyPatch, **spoiled: dict[str, Any]) -> list[tuple[str, str]]:
    """Cells are good ones, but for those that are named by their fault."""
    played: list[tuple[str, str]] = []

    def play_cell(_: object, fault: str, moment: str, __: float) -> Any:
        played.append((fault, moment))
        return result(fault, moment, **spoiled.get(fault.replace("-", "_"), {}))

    monkeypatch.setattr(chaos, "play_cell", play_cell)
    return played


def test_everything_is_played_moment_by_moment() -> None:
    options = chaos.parse([])
    assert len(options.cells) == len(FAULTS) * len(MOMENTS) == 48
    assert options.cells[: len(FAULTS)] == [(fault, "idle") for fault in FAULTS]
    assert options.silent == 30.0


def test_some_of_it() -> None:
    options = chaos.parse(["--only", "engine-9,redis-9", "--when", "load", "--silent", "3"])
    assert options.cells == [("engine-9", "load"), ("redis-9", "load")]
    assert options.silent == 3.0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--only", "engine-8"], "--only: there is no engine-8; there are engine-9, engine-stop"),
        (["--when", "never"], "--when: there is no never; there are idle, load, start, evict"),
        (["--when", ","], "--when: there is no empty choice"),
        (["--silent", "0"], "--silent must be more than 0"),
    ],
)
def test_wrong_options(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        chaos.parse(words)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_one_service_for_all_cells_while_it_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    played = playing(monkeypatch)
    service = FakeService()
    cells = [("engine-9", "load"), ("redis-9", "load")]
    results, left = chaos.play(cast(ChaosService, service), cells, 1.0)
    assert played == cells
    assert (len(results), left, service.downs) == (2, [], 1)


def test_after_a_cell_that_it_did_not_survive_it_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    playing(monkeypatch, engine_9={"recovered": Recovered({"scaling": None})}, redis_9={"problem": "no"})
    service = FakeService(left=(Process(7, 1, 1, "engine", "cold-1"),))
    cells = [("engine-9", "load"), ("redis-9", "load"), ("gcs-9", "load")]
    _, left = chaos.play(cast(ChaosService, service), cells, 1.0)
    assert service.downs == 3
    assert left == ["engine (7)"] * 3


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, home: Path, service: FakeService) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr(chaos, "ChaosService", lambda _: service)
    code = chaos.main(["--only", "engine-9,gcs-9", "--when", "load,idle"])
    (file,) = (home / "loadtests").glob("chaos-*.json")
    return code, json.loads(file.read_text())


def test_all_green(monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    playing(monkeypatch)
    code, written = run(monkeypatch, home, FakeService())
    assert code == 0
    assert (written["green"], written["of"], written["left_at_the_end"]) == (4, 4, [])
    assert [cell["fault"] for cell in written["cells"]] == ["engine-9", "engine-9", "gcs-9", "gcs-9"]
    assert written["silent_s"] == 30.0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["load", "idle"]
    assert shown.endswith("processes left at the end: none\n")


def test_one_red(monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    playing(monkeypatch, gcs_9={"lost": ["steady-1"]})
    code, written = run(monkeypatch, home, FakeService())
    assert (code, written["green"]) == (1, 2)
    assert "gcs-9 x load: steady-1 did not survive it" in capsys.readouterr().out


def test_something_is_left_over(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    playing(monkeypatch)
    code, written = run(monkeypatch, home, FakeService(left=(Process(7, 1, 1, "raylet"),)))
    assert (code, written["left_at_the_end"]) == (1, ["raylet (7)"])


def test_a_service_that_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> ChaosService:
        raise CallFailed("the benchmark's models could not be made")

    monkeypatch.setattr(chaos, "ChaosService", fail)
    assert chaos.main(["--only", "gcs-9"]) == 1
    assert "chaos: the benchmark's models could not be made" in capsys.readouterr().err
