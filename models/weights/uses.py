"""Which folders and layouts running engines need. A use is a file; it ends with its process, whoever forgets to say."""

from __future__ import annotations

from pathlib import Path

from models.weights.paths import StorePaths
from models.weights.processes import started_ticks
from models.weights.records import Use, load, save


class Uses:
    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths

    def hold(self, name: str, pid: int, folder: Path, layout: Path | None = None) -> None:
        """``name``: of the engine; a later use of the same name takes the place of the earlier one."""
        ticks = started_ticks(pid)
        if ticks is not None:
            use = Use(name=name, pid=pid, started_ticks=ticks, folder=str(folder), layout=str(layout or ""))
            save(self._file(name), use)

    def hand_over(self, name: str, pid: int) -> None:
        """The engine's own process has taken over from whoever ordered it."""
        use = load(self._file(name), Use)
        if use is not None:
            self.hold(name, pid, Path(use.folder), Path(use.layout) if use.layout else None)

    def release(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def alive(self) -> list[Use]:
        """Uses of dead processes are dropped on the way."""
        found = []
        for path in sorted(self._paths.uses.glob("*.json")):
            use = load(path, Use)
            if use is not None and started_ticks(use.pid) == use.started_ticks:
                found.append(use)
            else:
                path.unlink(missing_ok=True)
        return found

    def _file(self, name: str) -> Path:
        return self._paths.uses / f"{name}.json"
