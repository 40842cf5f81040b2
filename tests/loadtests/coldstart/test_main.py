"""``python -m loadtests.coldstart`` against a service that runs: a line per figure, a document without a host name."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.coldstart.__main__ import report, stock
from loadtests.coldstart.figure import Figure
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService

ROOT = Path(__file__).resolve().parents[3]


def run(target: Target, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"ROUNDHOUSE_HOME": str(home), **target.environment()}
    command = [sys.executable, "-m", "loadtests.coldstart", "--no-stock", *args]
    return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_three_figures_per_model_are_printed_and_written(tmp_path: Path) -> None:
    models = {name: FakeModel(start_s=0.02) for name in ("tiny-llama", "tiny-qwen3")}
    with FakeService(models).running() as service:
        done = run(service.target, tmp_path, "--passes", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("tiny-llama: stopped model to first token: median 0.0")
    assert all("2 passes" in line for line in lines)
    (file,) = (tmp_path / "loadtests").glob("coldstart-*.json")
    document = json.loads(file.read_text())
    assert document["own_service"] is False
    assert document["machine"]["cores"] >= 1
    assert [(figure["model"], len(figure["passes"])) for figure in document["figures"]] == [
        *[("tiny-llama", 2)] * 3,
        *[("tiny-qwen3", 2)] * 3,
    ]
    assert platform.node() not in file.read_text().split('"')


def test_the_document_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    with FakeService({"llama": FakeModel()}).running() as service:
        done = run(
            service.target, tmp_path, "--passes", "1", "--models", "llama", "--json", str(tmp_path / "a" / "b.json")
        )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a" / "b.json").read_text())["benchmark"] == "coldstart"


def test_what_could_not_be_measured_makes_the_exit_status_1(tmp_path: Path) -> None:
    with FakeService({"llama": FakeModel(breaks="error")}).running() as service:
        done = run(service.target, tmp_path, "--models", "llama")
    assert done.returncode == 1
    assert done.stdout.count("not measured (error event: the engine died)") == 3


def test_a_model_that_is_not_served_is_named(tmp_path: Path) -> None:
    with FakeService({"llama": FakeModel()}).running() as service:
        done = run(service.target, tmp_path)
    assert done.returncode == 1
    assert "no model tiny-llama, tiny-qwen3; there are llama" in done.stderr


@pytest.mark.parametrize("args", [("--passes", "0"), ("--only", "nonsense"), ("--models", ","), ("--passes", "many")])
def test_wrong_options_are_refused(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert run(Target("http://127.0.0.1:1"), tmp_path, *args).returncode == 2


def test_a_stock_server_that_fails_is_a_figure_with_a_problem(tmp_path: Path) -> None:
    figures = stock(
        str(tmp_path / "none"), "llama", lambda *_: [sys.executable, "-c", "import sys; sys.exit('broken')"]
    )
    assert len(figures) == 3
    for figure in figures:
        assert figure.values == []
        assert figure.problem is not None
        assert "broken" in figure.problem


def test_the_report_ends_with_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    ours = Figure("stopped model to first token", "llama", values=[0.25])
    report([ours, Figure("stock vLLM server, spawn to first token", "llama", values=[25.0])])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1] == "llama: a stock vLLM server takes 100 times as long as a stopped model"
