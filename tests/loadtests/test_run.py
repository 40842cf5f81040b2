"""``python -m loadtests`` end to end, with Locust in its own process, against a service on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService

ROOT = Path(__file__).resolve().parents[2]


def run(target: Target | None, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")}
    environ |= {"ROUNDHOUSE_HOME": str(home), **(target.environment() if target else {})}
    command = [sys.executable, "-m", "loadtests", *args]
    return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def loaded(
    models: dict[str, FakeModel], home: Path, *args: str
) -> tuple[subprocess.CompletedProcess[str], FakeService]:
    with FakeService(models).running() as service:
        done = run(service.target, home, "--run-time", "1s", "--users", "3", "--spawn-rate", "30", *args)
    return done, service


def summary_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_run_reports_the_three_times_of_every_chat_model(tmp_path: Path) -> None:
    models = {"llama": FakeModel(gap_s=0.005), "qwen": FakeModel(gap_s=0.005), "minilm": FakeModel(runtime="torch")}
    done, service = loaded(models, tmp_path, "--max-tokens", "5", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert " 0 failures in " in done.stdout
    assert done.stdout.count("p50/p95/p99") == 3
    assert {asked["model"] for asked in service.asked} == {"llama", "qwen"}
    assert {asked["max_tokens"] for asked in service.asked} == {5}
    assert all(asked["stream"] for asked in service.asked)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["requests"] == summary["TTFT"]["count"] == summary["E2E"]["count"] == len(service.asked)
    assert summary["ITL"]["count"] == 3 * summary["requests"]  # four words have three gaps
    assert summary["TTFT"]["min_ms"] >= 5
    assert summary["ITL"]["p50_ms"] >= 4
    assert summary["E2E"]["min_ms"] >= 20
    rows = json.loads((tmp_path / "out" / "locust.json").read_text())
    assert {(row["method"], row["name"]) for row in rows} == {
        (kind, name) for kind in ("TTFT", "ITL", "E2E") for name in ("llama", "qwen")
    }
    assert "TTFT" in (tmp_path / "out" / "report.html").read_text()
    assert "TTFT" in (tmp_path / "out" / "locust_stats.csv").read_text()


def test_reports_go_into_the_home_when_no_folder_is_named(tmp_path: Path) -> None:
    done, _ = loaded({"llama": FakeModel(gap_s=0.01)}, tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "loadtests").iterdir()
    assert (folder / "summary.json").exists()


def test_failures_carry_the_servers_words_streamed_or_not(tmp_path: Path) -> None:
    models = {
        "llama": FakeModel(breaks="error"),
        "qwen": FakeModel(refusal=(503, "the weights are broken")),
    }
    done, service = loaded(models, tmp_path, "--unstreamed", "0.5", "--json")
    assert done.returncode == 1
    summary = summary_of(done)
    errors = {row["error"] for row in summary["errors"]}
    assert errors == {
        "llama: error event: the engine died",
        "qwen: 503 model_start_failed: the weights are broken",
        "qwen (whole): 503 model_start_failed: the weights are broken",
    }
    assert summary["failures"] == sum(row["count"] for row in summary["errors"])
    assert summary["models"]["llama (whole)"]["E2E"]["count"] > 0  # its whole answers are fine
    assert summary["TTFT"]["count"] == sum(asked["stream"] for asked in service.asked if asked["model"] == "llama")


def test_a_request_that_never_ends_is_a_failure_and_not_forgotten(tmp_path: Path) -> None:
    done, _ = loaded({"llama": FakeModel(breaks="hang")}, tmp_path, "--stop-timeout", "1", "--json")
    assert done.returncode == 1, done.stderr
    assert summary_of(done)["errors"] == [{"error": "llama: not answered when the load test ended", "count": 3}]


def test_without_a_service_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = run(None, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "start it with `make run`" in done.stderr


def test_other_machines_are_left_alone(tmp_path: Path) -> None:
    done = run(Target("http://192.0.2.1:8000"), tmp_path)
    assert done.returncode == 1
    assert "http://192.0.2.1:8000 is not this machine; --allow-remote" in done.stderr


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--users", "0"), "must be at least 1"),
        (("--unstreamed", "2"), "must be from 0 to 1"),
        (("--what",), "unrecognized"),
        (("--run-time", "soon"), "must look like 30s"),
        (("--run-time", ""), "must look like 30s"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, args: tuple[str, ...], why: str) -> None:
    done = run(None, tmp_path, *args)
    assert done.returncode == 2
    assert why in done.stderr


def test_locust_itself_says_when_there_is_nothing_to_load(tmp_path: Path) -> None:
    environ = os.environ | {"ROUNDHOUSE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environ.pop("ROUNDHOUSE_URL", None)
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "-t", "1s"]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "start it with `make run`" in done.stderr


def test_only_the_locustfile_brings_gevent_in() -> None:
    code = (
        "import sys, loadtests.__main__, loadtests.chat, loadtests.coldstart.__main__;"
        "assert not {'gevent', 'locust'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
