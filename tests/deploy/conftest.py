from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.unit_file import Unit, read_units

DEPLOY = Path(__file__).resolve().parents[2] / "helm-free-deploy"


class Machine:
    """A checkout with a stand-in for the command, and a root folder that the script installs into."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "opt"
        self.root = folder / "root"
        shutil.copytree(DEPLOY, self.prefix / "helm-free-deploy", ignore=shutil.ignore_patterns("__pycache__"))
        command = self.prefix / ".venv" / "bin" / "roundhouse"
        command.parent.mkdir(parents=True)
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)

    @property
    def units(self) -> Path:
        return self.root / "etc" / "systemd" / "system"

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(self.prefix / "helm-free-deploy" / "install"), "--destdir", str(self.root), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="session")
def units() -> dict[str, Unit]:
    return read_units(DEPLOY / "systemd")
