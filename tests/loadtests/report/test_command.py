"""``python -m loadtests report``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loadtests.__main__ import main
from loadtests.outcome.slo import Slo
from tests.loadtests.report.made import rows_at, run, saved, saved_pairs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(tmp_path / "one", run(rows_at(np.random.default_rng(0), 120)))


def slower(tmp_path: Path) -> Path:
    return saved(tmp_path / "slow", run(rows_at(np.random.default_rng(1), 120, added_ms=40.0)))


def goals(tmp_path: Path, text: str) -> str:
    (tmp_path / "slo.yaml").write_text(text)
    return str(tmp_path / "slo.yaml")


def test_it_writes_what_is_asked_for(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "r"
    wanted = [word for kind in ("html", "md", "csv", "svg") for word in (f"--{kind}", f"{out}.{kind}")]
    assert main(["report", str(file), *wanted]) == 0
    assert {one.name for one in out.parent.iterdir()} == {"r.html", "r.md", "r.csv", "r.svg"}
    assert out.with_suffix(".html").read_text().startswith("<!doctype html>")
    assert capsys.readouterr().out.startswith("Load test: steady: nothing failed")


def test_a_folder_gets_all_of_it(file: Path, tmp_path: Path) -> None:
    assert main(["report", str(file.parent), "--out", str(tmp_path / "all")]) == 0
    found = {one.name for one in (tmp_path / "all").iterdir()}
    assert found == {"report.html", "report.json", "report.csv", "report.md"}
    assert json.loads((tmp_path / "all" / "report.json").read_text())["format"] == "roundhouse-loadtest-report"


def test_goals_of_a_file_decide_the_exit_status(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(file), "--slo", goals(tmp_path, "ttft_ms: {p50: 500}")]) == 0
    assert main(["report", str(file), "--slo", goals(tmp_path, "ttft_ms: {p50: 2}")]) == 1
    assert "missed: ttft_ms.p50" in capsys.readouterr().out


def test_without_a_file_the_runs_own_goals_count(tmp_path: Path) -> None:
    own = saved(tmp_path / "x", run(rows_at(np.random.default_rng(0), 60), slo=Slo(ttft_ms={"p50": 2.0})))
    assert main(["report", str(own)]) == 1


def test_a_run_that_is_not_valid_keeps_no_goal(tmp_path: Path) -> None:
    late = saved(tmp_path / "x", run(rows_at(np.random.default_rng(0), 60, late_ms=90.0)))
    assert main(["report", str(late)]) == 1


def test_two_runs_and_whether_the_second_is_slower(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(slower(tmp_path))
    assert main(["report", str(file), other]) == 0
    assert "significant" in capsys.readouterr().out
    assert main(["report", str(file), other, "--no-slower"]) == 1
    assert main(["report", other, str(file), "--no-slower"]) == 0
    assert main(["report", str(file), str(file), "--no-slower"]) == 0


def test_what_the_gateway_may_add(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sides = ([run(rows_at(rng, 60, added_ms=added)) for _ in range(2)] for added in (0.0, 9.0))
    folder = str(saved_pairs(tmp_path / "cost", *sides))
    assert main(["report", folder, "--slo", goals(tmp_path, "added_ttft_ms: {p50: 30}")]) == 0
    assert main(["report", folder, "--slo", goals(tmp_path, "added_ttft_ms: {p50: 1}")]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.json"], "is not there: name a run's file or folder"),
        (["FILE", "FILE", "FILE"], "one run, or two"),
        (["FILE", "--no-slower"], "--no-slower takes two runs"),
        (["FILE", "--what"], "unrecognized arguments"),
        (["FILE", "--slo", "SLO"], "takes runs with --direct"),
        ([], "required: RUN"),
    ],
)
def test_what_cannot_be_reported_on(
    file: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"FILE": str(file), "SLO": goals(tmp_path, "added_ttft_ms: {p50: 1}")}
    asked = [given.get(word, word) for word in words]
    assert main(["report", *asked]) == 2
    assert said in capsys.readouterr().err
    assert main(["report", *asked, "--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]["message"]


def test_its_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["suite"], found["verdict"]["kept"]) == ("run", "steady", True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--pairs 3", "--pairs goes with --direct"),
        ("--reset", "--reset goes with --direct"),
        ("--direct --web", "page of Locust"),
    ],
)
def test_options_that_do_not_go_together(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steady", *words.split()]) == 2
    assert said in capsys.readouterr().err


def test_goals_of_two_sides_are_refused_before_a_single_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steady", "--slo", goals(tmp_path, "added_gap_ms: {p50: 1}")]) == 2
    assert "it takes --direct" in capsys.readouterr().err
