"""Which tests run in one process, when several share them."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import together

CONFTEST = Path(__file__).with_name("conftest.py")
TEST = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(6))
def test_it(number):
    file = pathlib.Path(__file__)
    (pathlib.Path("ran") / f"{file.stem}-{number}-{os.environ['PYTEST_XDIST_WORKER']}").touch()
"""


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/e2e/test_a.py::test_x[a@b::c]", "service"),
        ("tests/cluster/test_b.py::test_y", "cluster"),
        ("tests/gateway/test_c.py::Class::test_z", "tests/gateway/test_c.py"),
        ("tests/e2e/below/test_d.py::test_w", "tests/e2e/below/test_d.py"),
    ],
)
def test_files_stay_whole_and_those_of_one_service_together(nodeid: str, group: str) -> None:
    assert together(nodeid) == group


def test_pytest_and_xdist_do_so(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    (tests / "e2e").mkdir(parents=True)
    (tmp_path / "ran").mkdir()
    (tests / "conftest.py").write_text(CONFTEST.read_text())
    for name in ("e2e/test_one", "e2e/test_two", "test_three", "test_four", "test_five"):
        (tests / f"{name}.py").write_text(TEST)
    words = ["-q", "-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = defaultdict(set)
    for ran in (tmp_path / "ran").iterdir():
        name, _, worker = ran.name.split("-")
        workers["service" if name in ("test_one", "test_two") else name].add(worker)
    assert {name: len(found) for name, found in workers.items()} == dict.fromkeys(
        ("service", "test_three", "test_four", "test_five"), 1
    )
    assert len(set().union(*workers.values())) == 2
