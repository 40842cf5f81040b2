"""Which files of an installation hold whose logs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from models.home import Home
from models.runtimes.host.log_reader import Source, engine_logs

ALSO_CALLED = {"controller": "control", "store": "redis"}
PEEKED_BYTES = 1 << 16
# Ray keeps what its actors write: the controller's and the node's, of the present session.
RAY_LOGS = Path("session_latest") / "logs"
_OF_CONTROL = (b" roundhouse.control ", b" roundhouse.fleet ")


def model_logs(home: Home, model_id: str) -> list[Source]:
    """Of every replica of the model that has or had an engine on this machine; the newest last."""
    return engine_logs(home.engine_logs, model_id)


def part_logs(home: Home, name: str) -> list[Source]:
    """Of a part of the service; empty when it has none or there is no such part."""
    name = ALSO_CALLED.get(name, name)
    if name not in part_names(home):
        return []
    found = [Source(name, home.logs / f"{name}.log")]
    if name == "control":
        found += _actors(home)
    return found


def part_names(home: Home) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(path.stem for path in home.logs.glob("*.log"))
    return []


def _actors(home: Home) -> list[Source]:
    found = []
    with contextlib.suppress(OSError):
        for path in sorted((home.ray / RAY_LOGS).glob("worker-*.err")):
            with path.open("rb") as log:
                begin = log.read(PEEKED_BYTES)
            if any(mark in begin for mark in _OF_CONTROL):
                found.append(Source("control", path))
    return found
