"""The benchmark itself, on a small made-up folder: its lines, its baselines, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.policies.options import BadData, Options
from loadtests.policies.packing import decision_time, online
from loadtests.policies.packing.__main__ import main
from loadtests.policies.packing.openb import PUBLISHED, read_machines, read_tasks, task_lists
from loadtests.policies.report import Figure, Report
from tests.loadtests.policies.openb_files import TASK_HEAD, folder, published_lines, write


def run(data: Path, only: str, seeds: tuple[int, ...] | None = (42, 43)) -> list[Figure]:
    report = Report("packing")
    online.run(Options(data, seeds, tuple(only.split(",")), data / "results", 1), report)
    return report.figures


def test_a_line_for_each_list_against_the_authors_figures_where_there_are_some(tmp_path: Path) -> None:
    folder(tmp_path, ["default", "gpushare99"])
    write(tmp_path / PUBLISHED, published_lines(["gpushare99"], percent=80.0))
    default, gpushare = run(tmp_path, "P2")
    assert (default.item, gpushare.item) == ("default", "gpushare99")
    assert gpushare.limit == pytest.approx(81.0 - 0.3)
    assert gpushare.others == {"FGD, the authors' own runs": 81.0, "BestFit, the authors' own runs": 81.0}
    assert default.limit is not None
    assert default.limit == pytest.approx(default.others["FGD as published, run here"] - 0.3)
    assert not default.at_most


def test_p1_has_its_mean_its_baselines_and_the_worst_order(tmp_path: Path) -> None:
    mean, worst = run(folder(tmp_path), "P1", seeds=(42,))
    assert set(mean.others) == {"FGD as published", "first-fit", "best-fit"}
    assert mean.value == pytest.approx(mean.details["by seed"]["42"], abs=0.001)
    orders = worst.details["by order"]
    assert len(orders) == 14
    assert worst.value == max(orders.values())
    assert (mean.limit, worst.limit) == (4.6, 4.8)


def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    folder(tmp_path)
    report = Report("packing")
    online.run(Options(tmp_path, (42, 43), ("P2",), tmp_path / "results", 2), report)
    assert report.figures == run(tmp_path, "P2")


def test_of_many_lists_only_some_seeds_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, ["default", "a"])
    monkeypatch.setattr(online, "MANY_LISTS", 1)
    monkeypatch.setattr(online, "SEEDS_OF_MANY", 1)
    assert all("1 seeds" in figure.name for figure in run(tmp_path, "P2", seeds=None))
    assert all("2 seeds" in figure.name for figure in run(tmp_path, "P2", seeds=(1, 2)))


def test_without_the_default_list_p1_says_that_it_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder(tmp_path, ["other"]), "P1") == []
    assert "P1 is left out" in capsys.readouterr().err


def test_missing_files_matter_only_to_those_who_need_them(tmp_path: Path) -> None:
    assert run(tmp_path, "P3") == []
    for goal in ("P1", "P2", "P*"):
        with pytest.raises(BadData, match="is missing"):
            run(tmp_path, goal)


def test_decision_times_of_a_small_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path)
    for name, value in (("LIMITS_MS", {50: 1.0}), ("DECISIONS", 60), ("WARM_UP", 20), ("NAIVE_DECISIONS", 5)):
        monkeypatch.setattr(decision_time, name, value)
    report = Report("packing")
    decision_time.run(Options(tmp_path, None, ("P7",), tmp_path / "results", 1), report)
    [figure] = report.figures
    assert (figure.goal, figure.item, figure.limit) == ("P7", "50-gpus", 1.0)
    assert figure.value > 0
    assert figure.others["naive numpy FGD p99"] > 0
    assert len(figure.details["p99 by pass"]) == decision_time.PASSES


def test_a_fleet_of_any_size_is_cut_from_the_trace(tmp_path: Path) -> None:
    folder(tmp_path)
    machines = read_machines(tmp_path / "openb" / "openb_node_list_gpu_node.csv.gz")
    for gpus in (1, 7, 500):
        fleet = decision_time.sized(machines, gpus)
        assert sum(machine.gpus for machine in fleet) == gpus
        assert len({machine.name for machine in fleet}) == len(fleet)


def test_time_is_what_the_clock_says(tmp_path: Path) -> None:
    folder(tmp_path)
    machines = read_machines(tmp_path / "openb" / "openb_node_list_gpu_node.csv.gz")
    tasks = read_tasks(task_lists(Options(tmp_path, None, (), tmp_path, 1))["default"])
    ticks = iter(range(1_000_000))
    times = decision_time.measure("ours", machines, tasks, 1, 10, clock=lambda: float(next(ticks)))
    assert (times.p50_ms, times.p99_ms) == (1000.0, 1000.0)


def test_the_command_prints_lines_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    results = tmp_path / "results"
    arguments = ["--data", str(tmp_path), "--seeds", "1", "--only", "P2", "--results", str(results), "--jobs", "1"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("P2 default: GPUs allocated at 1.3x load, 1 seeds")
    written = json.loads((results / "packing.json").read_text())
    assert [figure["goal"] for figure in written["figures"]] == ["P2"]


def test_the_command_names_the_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    write(tmp_path / "openb" / "openb_pod_list_broken.csv", [TASK_HEAD, "a,1,1,one,1,,"])
    assert main(["--data", str(tmp_path), "--only", "P2", "--results", str(tmp_path / "results")]) == 1
    error = capsys.readouterr().err
    assert "openb_pod_list_broken.csv, line 2: num_gpu is no number: 'one'" in error
