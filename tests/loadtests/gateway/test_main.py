"""The command: options, a whole short run over stand-ins, one line per figure, JSON with every pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.gateway import __main__ as command
from loadtests.gateway import open_streams, ours, scaling, soak
from loadtests.gateway.comparison import DIRECT
from loadtests.gateway.native import Programs
from loadtests.gateway.passes import Measure
from loadtests.gateway.problems import CannotMeasure, NoCompiler
from loadtests.policies.report import Figure
from tests.loadtests.gateway.subjects import stand_in


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--passes", "0"], "--passes must be at least 1"),
        (["--soak", "0"], "more than 0"),
        (
            ["--subjects", "nginx,apache"],
            "--subjects: there is no apache; there are roundhouse, roundhouse gateway, nginx",
        ),
        (["--only", "G1"], "--only: there is no G1; there are peers, streams, workers, models"),
    ],
)
def test_wrong_options_are_told(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parse(argv)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_options_choose_subjects_and_parts() -> None:
    options = command.parse(["--subjects", "litellm,roundhouse", "--only", "models"])
    assert [subject.name for subject in options.subjects] == ["roundhouse", "litellm"]
    assert options.only == ["models"]
    assert command.parse(["--soak", "20"]).only == ["soak"]


def test_long_reasons_are_shown_by_their_ends() -> None:
    assert command.short("it ended with 1:\n\ntrace\nback\nno such file\n") == "it ended with 1: ... no such file"
    assert command.short("not installed") == "not installed"


def test_without_a_compiler_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(_folder: Path) -> Programs:
        raise NoCompiler("no C compiler; install one")

    monkeypatch.setattr("loadtests.gateway.bench.compile_programs", refuses)
    assert command.main(["--results", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "gateway: no C compiler; install one\n"
    assert not list(tmp_path.iterdir())


def run(folder: Path, *argv: str) -> tuple[int, dict[str, Any]]:
    status = command.main([*argv, "--results", str(folder)])
    return status, json.loads((folder / "gateway.json").read_text())


@pytest.mark.long  # 12 s
def test_a_short_run_from_end_to_end(
    programs: Programs | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if programs is None:
        return
    there, gone, refusing = stand_in(), stand_in("gone", missing="not installed"), stand_in("refusing", "refuse", 1.0)
    monkeypatch.setattr(command, "SUBJECTS", (there, gone, refusing))
    monkeypatch.setattr("loadtests.gateway.bench.WARMUP_S", 0.02)
    status, document = run(tmp_path, "--only", "peers", "--passes", "2", "--seconds", "0.25")
    shown = capsys.readouterr()
    assert status == 0, shown
    assert {name: len(passes) for name, passes in document["compared"].items()} == {DIRECT: 2, "stand-in": 2}, shown
    for passes in document["compared"].values():
        assert all(one[Measure.RPS_16] > 0 and one[Measure.BURST_EVENTS] > 0 for one in passes)
    assert {Measure.CPU_US, Measure.RSS, Measure.READY_S, Measure.LEAVE_MS} <= set(document["compared"]["stand-in"][0])
    assert document["not_measured"]["gone"] == "not installed"
    assert "it gave no answer in time" in document["not_measured"]["refusing"]
    assert document["troubles"] == []
    assert "not measured: gone: not installed" in shown.out
    assert [line.split()[0] for line in shown.out.split("\n")[1:3]] in ([DIRECT, "stand-in"], ["stand-in", DIRECT])
    assert "pass 2 of 2: stand-in" in shown.err
    assert "pass 2 of 2: refusing" not in shown.err


def test_parts_that_cannot_be_measured_do_not_stop_the_others(
    programs: Programs | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if programs is None:
        return

    def refuses(*_: object) -> list[Figure]:
        raise CannotMeasure("two workers need four cores")

    monkeypatch.setattr(scaling, "workers_figures", refuses)
    monkeypatch.setattr(
        scaling, "models_figures", lambda *_: [Figure("G6", "64 connections", "share", 0.99, "x", 0.95, False)]
    )
    monkeypatch.setattr(open_streams, "figures", lambda *_: [Figure("G4", "1 worker", "start", 0.6, "s", 0.5)])
    status, document = run(tmp_path, "--only", "streams,workers,models")
    assert status == 1
    assert document["not_measured"] == {"workers": "two workers need four cores"}
    assert [(one["goal"], one["met"]) for one in document["figures"]] == [("G4", False), ("G6", True)]
    shown = capsys.readouterr().out
    assert "G4 1 worker: start 0.6 s (goal <= 0.5: missed by 0.1)" in shown
    assert "G6 64 connections: share 0.99 x (goal >= 0.95: met)" in shown
    assert "not measured: workers: two workers need four cores" in shown


@pytest.fixture
def as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in where Roundhouse's own gateway would be started."""
    monkeypatch.setattr(ours, "subject", lambda name=ours.NAME: stand_in(name))


@pytest.mark.usefixtures("as_ours")
def test_open_streams_and_starts_are_measured(
    programs: Programs | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if programs is None:
        return
    for name, value in (("STREAMS", 60), ("HOLD_S", 0.3), ("SETTLE_S", 0.1), ("STARTS", 1)):
        monkeypatch.setattr(open_streams, name, value)
    status, document = run(tmp_path, "--only", "streams")
    assert status == 0
    start, idle, each, cut = document["figures"]
    assert start["value"] > 0
    assert idle["value"] > 1
    assert each["details"]["open"] == 60
    assert each["details"]["rss_during_bytes"] >= each["details"]["rss_before_bytes"]
    assert (cut["value"], cut["met"]) == (0, True)


@pytest.mark.usefixtures("as_ours")
def test_workers_and_models_are_measured_where_the_cores_are_enough(
    programs: Programs | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if programs is None:
        return
    monkeypatch.setattr(scaling, "MODELS", 200)
    status, document = run(tmp_path, "--only", "workers,models", "--passes", "1", "--seconds", "0.1")
    found = {one["goal"]: one for one in document["figures"]}
    assert found["G6"]["value"] > 0
    assert found["G6"]["others"].keys() == {"one /s", "all /s"}
    if "G5" in found:
        assert status == 0
        assert found["G5"]["others"]["no gateway /s"] > 0
    else:
        assert "four cores" in document["not_measured"]["workers"]


@pytest.mark.usefixtures("as_ours")
def test_a_soak_is_measured(programs: Programs | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if programs is None:
        return
    measured = soak.figures
    monkeypatch.setattr(soak, "figures", lambda bench, minutes, say: measured(bench, minutes, say, sample_s=0.1))
    status, document = run(tmp_path, "--soak", "0.03", "--seconds", "0.1")
    assert status == 0
    memory, descriptors, failed = document["figures"]
    assert memory["details"]["requests"] > 0
    assert len(memory["details"]["samples"]) > 5
    assert descriptors["goal"] == "soak"
    assert (failed["value"], failed["met"]) == (0, True)
