"""``roundhouse loadtest`` starts the load test with what it was given, and ends as it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.service.parts import SOURCE_ROOT
from tests.loadtests.fake_service import FakeModel, FakeService


def roundhouse(tmp_path: Path, *words: str, **given: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")}
    environ |= {"PYTHONPATH": str(SOURCE_ROOT), "ROUNDHOUSE_HOME": str(tmp_path / "home"), **given}
    command = [sys.executable, "-m", "gateway.cli", "loadtest", *words]
    return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


def test_a_suite_runs_against_a_target_with_options_of_its_own(tmp_path: Path) -> None:
    service = FakeService({"m": FakeModel(state="ready")})
    words = ("steady", "--target", service.target.url, "--rate", "20", "--duration", "1s", "--out", "out", "--json")
    with service.running():
        done = roundhouse(tmp_path, *words, "--output-tokens", "fixed:5", "--quiet", **service.target.environment())
    run = json.loads(done.stdout)
    assert done.returncode == (0 if run["generator"]["valid"] else 1), done.stderr  # a machine may be too busy
    assert run["summary"]["requests"] == len(service.asked) > 0
    assert {asked["max_tokens"] for asked in service.asked} == {5}
    assert (tmp_path / "out" / "run.json").exists()


def test_its_help_has_the_suites_and_every_option(tmp_path: Path) -> None:
    done = roundhouse(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"spike", "noisy-neighbour", "--json", "--home", "--direct", "--slo"} <= set(done.stdout.split())


def test_the_state_folder_says_where_the_service_is(tmp_path: Path) -> None:
    with FakeService({"m": FakeModel(state="ready")}).running() as service:
        (tmp_path / "elsewhere").mkdir()
        lines = [f"{name}={value}" for name, value in service.target.environment().items()]
        (tmp_path / "elsewhere" / "demo.env").write_text("\n".join(lines) + "\n")
        done = roundhouse(tmp_path, "steady", "--rate", "9", "--duration", "1s", "--home", str(tmp_path / "elsewhere"))
    assert "steady: " in done.stdout, done.stderr
    assert (folder := next((tmp_path / "elsewhere" / "loadtests").iterdir())).name.endswith("-steady")
    assert (folder / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("moon",), 2, "there is no suite 'moon'"),
        (("steady", "--what"), 2, "unrecognized arguments: --what"),
        (("steady",), 1, "start it with `make run`"),
    ],
)
def test_its_errors_are_this_commands(tmp_path: Path, words: tuple[str, ...], status: int, why: str) -> None:
    done = roundhouse(tmp_path, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("error: ")
    assert why in done.stderr
    assert why in json.loads(roundhouse(tmp_path, *words, "--json").stdout)["error"]["message"]


def test_compare_is_handed_on_with_its_own_options(tmp_path: Path) -> None:
    with FakeService({"m": FakeModel(state="ready")}, check_keys=False).running() as service:
        targets = f"one={service.target.url},other={service.target.url}"
        words = ("compare", "steady", "--targets", targets, "--passes", "1", "--rate", "20", "--duration", "1s")
        done = roundhouse(tmp_path, *words, "--out", "out", "--quiet", "--json")
    made = json.loads(done.stdout)
    assert [target["name"] for target in made["targets"]] == ["one", "other"], done.stderr
    assert done.returncode == (0 if made["ok"] else 1)
    assert made["passes"] == 1
    assert (tmp_path / "out" / "comparison.json").exists()


def test_compare_without_anything_to_compare_says_what_it_needs(tmp_path: Path) -> None:
    done = roundhouse(tmp_path, "compare", "steady")
    assert done.returncode == 2
    assert "name what is to be compared: --targets NAME=URL" in done.stderr


def test_help_is_that_of_the_load_test_with_all_of_its_options(tmp_path: Path) -> None:
    for words, known in (
        (("--help",), ("spike", "--direct [URL]", "--prompt-tokens DIST", "ROUNDHOUSE_ADMIN_KEY")),
        (("spike", "--help"), ("--factor F", "--home DIR")),
        (("report", "--help"), ("--no-slower", "--svg FILE")),
        (("compare", "--help"), ("--targets NAME=URL,..", "--start NAME,..")),
    ):
        done = roundhouse(tmp_path, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert all(option in done.stdout for option in known), words
