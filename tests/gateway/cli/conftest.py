from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.app import run
from models.home import Home
from tests.gateway.cli.fake_admin import KEY, FakeAdmin, serving
from tests.gateway.service.conftest import Started, home, start

__all__ = ["Cli", "Outcome", "Started", "admin", "cli", "home", "start"]


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process, in an empty folder, for a state folder of its own."""
    for name in [name for name in os.environ if name.startswith(("ROUNDHOUSE_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(home.root))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = run(arguments)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture
def admin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdmin]:
    """A service to talk to; the commands are told of it by the environment."""
    with serving(FakeAdmin()) as fake:
        monkeypatch.setenv("ROUNDHOUSE_URL", fake.url)
        monkeypatch.setenv("ROUNDHOUSE_ADMIN_KEY", KEY)
        yield fake
