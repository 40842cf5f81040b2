"""A world of make-believe processes, each acting as its script says, and a journal of what happened when."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.service.processes import ProcessId
from gateway.service.spec import PartSpec


@dataclass(frozen=True)
class Act:
    """What one start of a part leads to. Seconds after its start; None: never. ``heeds_s``: how long after SIGTERM."""

    ready_s: float | None = 1.0
    ends_s: float | None = None
    status: int = 0
    heeds_s: float | None = 0.1
    says: tuple[str, ...] = ()
    cannot_start: str | None = None


class FakeProcess:
    def __init__(self, host: FakeHost, name: str, act: Act, pid: int) -> None:
        self._host = host
        self._name = name
        self._act = act
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self.id = ProcessId(pid, pid)
        if act.ends_s is not None:
            self._loop.call_later(act.ends_s, self._end, act.status)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def signal(self, signum: signal.Signals) -> None:
        if self._ended.done():
            return
        self._host.note(f"{self._name} gets {signum.name}")
        if signum is signal.SIGKILL:
            self._end(-signal.SIGKILL)
        elif self._act.heeds_s is not None:
            self._loop.call_later(self._act.heeds_s, self._end, 0)

    async def clear(self) -> None:
        self._host.note(f"{self._name} leaves nothing")

    def answers(self) -> bool:
        ready_s = self._act.ready_s
        return not self._ended.done() and ready_s is not None and self._loop.time() >= self._born + ready_s

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._host.note(f"{self._name} ends")
            self._ended.set_result(status)


class FakeHost:
    """``acts``: for each part what its first, second, ... start leads to; the last act is repeated."""

    def __init__(self, **acts: Act | Iterable[Act]) -> None:
        self.journal: list[tuple[float, str]] = []
        self.running: dict[str, FakeProcess] = {}
        self.starts: dict[str, int] = {}
        self._acts = {
            name.replace("_", "-"): [act] if isinstance(act, Act) else list(act) for name, act in acts.items()
        }
        self._said: dict[str, tuple[str, ...]] = {}
        self._pids = itertools.count(100)

    def spec(self, name: str, **changes: object) -> PartSpec:
        """A part whose probe asks its make-believe process."""

        async def answers() -> bool:
            return self.running[name].answers()

        given = {"what": name, "command": (name,), "ready": answers, **changes}
        return PartSpec(name=name, **given)  # type: ignore[arg-type]

    def spawn(self, spec: PartSpec) -> FakeProcess:
        acts = self._acts.get(spec.name, [Act()])
        nth = self.starts.get(spec.name, 0)
        self.starts[spec.name] = nth + 1
        act = acts[min(nth, len(acts) - 1)]
        if act.cannot_start:
            raise OSError(act.cannot_start)
        self.note(f"{spec.name} starts")
        self._said[spec.name] = act.says
        self.running[spec.name] = FakeProcess(self, spec.name, act, next(self._pids))
        return self.running[spec.name]

    def log_path(self, part: str) -> Path:
        return Path(f"{part}.log")

    def log_lines(self, part: str, most: int) -> list[str]:
        return list(self._said.get(part, ()))[-most:]

    def note(self, what: str) -> None:
        self.journal.append((round(asyncio.get_running_loop().time(), 2), what))

    @property
    def story(self) -> list[str]:
        return [what for _, what in self.journal]

    def when(self, what: str) -> float:
        """The time of the last entry that says this."""
        return [at for at, said in self.journal if said == what][-1]
