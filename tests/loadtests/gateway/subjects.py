"""Gateways for tests, as the benchmark starts its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.gateway.scene import Scene, Subject
from tests.loadtests.gateway.conftest import EVERYWHERE

STAND_IN = Path(__file__).with_name("stand_in.py")


def stand_in(
    name: str = "stand-in", how: str = "", start_timeout_s: float = 20.0, missing: str | None = None
) -> Subject:
    def command(scene: Scene, port: int, folder: Path) -> Sequence[str]:
        return [sys.executable, str(STAND_IN), str(port), str(scene.engine_ports[0]), how]

    def environ(folder: Path) -> dict[str, str]:
        return {"ORPHAN_FILE": str(folder.parent / "orphan")}

    return Subject(name, lambda _scene: missing, command, environ, start_timeout_s)


def scene(folder: Path, engine_port: int, peers: Path | None = None) -> Scene:
    return Scene(folder, (engine_port,), "rh-test", EVERYWHERE, peers)
