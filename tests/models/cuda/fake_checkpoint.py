"""Stands for ``cuda.core.checkpoint.Process`` in a real helper process; its state lies in a file that a test shares."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STATE = "FAKE_CHECKPOINT_STATE"  # the file: {"state": ..., "fails": {operation: message}, "done": [...]}


class FakeProcess:
    """The driver's rules: each operation is possible in one state only."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._file = Path(os.environ[STATE])

    @property
    def state(self) -> str:
        return str(self._read()["state"])

    def lock(self, timeout_ms: int = 0) -> None:
        self._move(f"lock {self._pid} {timeout_ms}", "running", "locked")

    def checkpoint(self) -> None:
        self._move("checkpoint", "locked", "checkpointed")

    def restore(self) -> None:
        self._move("restore", "checkpointed", "locked")

    def unlock(self) -> None:
        self._move("unlock", "locked", "running")

    def _move(self, what: str, before: str, after: str) -> None:
        seen = self._read()
        seen["done"].append(what)
        failure = seen["fails"].get(what.split()[0])
        if failure:
            self._write(seen | {"state": seen.get("after", seen["state"])})
            if failure == "exit":
                os._exit(3)
            raise RuntimeError(failure)
        if seen["state"] != before:
            raise RuntimeError(f"CUDA_ERROR_ILLEGAL_STATE: it is {seen['state']}")
        self._write(seen | {"state": after})

    def _read(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(self._file.read_text())
        return seen

    def _write(self, seen: dict[str, Any]) -> None:
        self._file.write_text(json.dumps(seen))
