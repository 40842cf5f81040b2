"""Runs ``python -m loadtests`` as somebody at a terminal would, and reads what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.outcome.document import read
from loadtests.outcome.rows import Row, rows
from loadtests.target import Target
from tests.loadtests.fake_service import FakeService

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str
    run: dict[str, Any]

    @property
    def kept(self) -> bool:
        """The goals were, and the exit status says so; on a busy machine it may say that the run is not valid."""
        valid = self.run["generator"]["valid"]
        return bool(self.run["verdict"]["kept"]) and self.status == (0 if valid else 1)

    @property
    def rows(self) -> list[Row]:
        return rows(self.run["requests"])


def environment(home: Path, target: Target | None = None) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")}
    return environ | {"ROUNDHOUSE_HOME": str(home), "PYTHONPATH": str(ROOT), **(target.environment() if target else {})}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "loadtests", *words]


def load(target: Target | None, home: Path, *words: str) -> Done:
    """``run`` is empty when there was none."""
    out = home / "out"
    done = subprocess.run(
        command(*words, "--out", str(out)), env=environment(home, target), cwd=home, capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    return finished(done.returncode, done.stdout, done.stderr, out)


def finished(status: int, out: str, err: str, folder: Path) -> Done:
    file = folder / "run.json"
    return Done(status, out, err, read(file) if file.exists() else {})


def loaded(service: FakeService, home: Path, *words: str) -> Done:
    with service.running():
        return load(service.target, home, *words)
