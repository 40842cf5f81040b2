"""Keeps the parts of an installation running: in the order of their needs, restarted when they end, stopped in turn."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.service.host import Host, Running
from gateway.service.processes import ProcessId
from gateway.service.report import Event, Report
from gateway.service.restarts import Restarts
from gateway.service.spec import PartSpec, check, stop_layers

PROBE_EVERY_S = 0.05
SHOWN_LOG_LINES = 12
KILL_WAIT_S = 5.0

PartState = Literal["waiting", "starting", "ready", "done", "restarting", "stopped"]


class StartFailed(Exception):
    """A part did not become ready; the message says which and why, ``lines`` is the end of its log."""

    def __init__(self, part: str, reason: str, lines: tuple[str, ...]) -> None:
        super().__init__(f"{part} {reason}")
        self.part = part
        self.reason = reason
        self.lines = lines


@dataclass(eq=False)
class Part:
    """A part as it is now. Written by the supervisor alone."""

    spec: PartSpec
    state: PartState = "waiting"
    running: Running | None = None
    restarts: Restarts = field(default_factory=Restarts)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    wanted_again: asyncio.Event = field(default_factory=asyncio.Event)  # what it follows has been restarted

    @property
    def process(self) -> ProcessId | None:
        return self.running.id if self.running else None


class Supervisor:
    """``on_change`` is called after every change of a part's state."""

    def __init__(
        self, specs: tuple[PartSpec, ...], host: Host, report: Report, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """Raises ValueError for parts that cannot be put in order."""
        check(specs)
        self.parts = {spec.name: Part(spec) for spec in specs}
        self._layers = stop_layers(specs)
        self._host = host
        self._report = report
        self._on_change = on_change
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start everything; returns once all parts are ready. Raises StartFailed: then ``stop`` clears up."""
        self._keepers = [asyncio.create_task(self._keep(part), name=name) for name, part in self.parts.items()]
        all_ready = asyncio.ensure_future(self._all_ready())
        pending: set[asyncio.Task[None]] = {*self._keepers, all_ready}
        try:
            while all_ready in pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            all_ready.cancel()

    async def _all_ready(self) -> None:
        for part in self.parts.values():
            await part.ready.wait()

    async def serve(self) -> None:
        """Keep everything running until cancelled. Raises what no restart can mend."""
        await asyncio.gather(*self._keepers)

    async def stop(self, hurry: asyncio.Event) -> None:
        """End all parts, those that are needed last. Once ``hurry`` is set nobody is asked any more, only killed."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for layer in self._layers:
            await asyncio.gather(*(self._end(self.parts[name], hurry) for name in layer))

    async def _keep(self, part: Part) -> None:
        """One part's life. Raises StartFailed when its first start fails; later failures are retried without end."""
        first = True
        while True:
            await asyncio.gather(*(self.parts[name].ready.wait() for name in part.spec.needs))
            try:
                await self._launch(part)
            except StartFailed as failure:
                if first:
                    raise
                self._failed_again(part, failure)
            else:
                if part.spec.once:
                    return
                await self._until_it_ends(part)
            first = False
            self._set(part, "restarting")
            await asyncio.sleep(part.restarts.wait_s)

    async def _launch(self, part: Part) -> None:
        """Start the process and wait until it is ready. Raises StartFailed, and then nothing of it runs."""
        spec = part.spec
        began = _now()
        part.wanted_again.clear()
        self._report(Event(kind="starting", part=spec.name, text=spec.what))
        try:
            spec.prepare()
            part.running = self._host.spawn(spec)
        except OSError as problem:
            raise StartFailed(spec.name, f"could not be started: {problem}", ()) from problem
        self._set(part, "starting")
        try:
            async with asyncio.timeout(spec.start_timeout_s):
                await (self._finished(part) if spec.once else self._answers(part))
        except TimeoutError:
            lines = self._tail(part)
            await self._end(part, _at_once())
            raise StartFailed(spec.name, f"was not ready after {spec.start_timeout_s:g} s", lines) from None
        self._set(part, "done" if spec.once else "ready")
        part.ready.set()
        self._report(Event(kind="ready", part=spec.name, seconds=_now() - began))

    async def _finished(self, part: Part) -> None:
        """A one-shot: what it writes is its progress."""
        assert part.running is not None
        ending = asyncio.ensure_future(part.running.wait())
        shown = 0
        while True:
            await asyncio.wait([ending], timeout=PROBE_EVERY_S)
            over = ending.done()
            lines = self._host.log_lines(part.spec.name, 1000)
            for line in lines[shown:]:
                self._report(Event(kind="progress", part=part.spec.name, text=line))
            shown = len(lines)
            if over:
                break
        await self._forget(part)
        if ending.result() != 0:
            raise StartFailed(part.spec.name, _ended(ending.result()), self._tail(part))

    async def _answers(self, part: Part) -> None:
        assert part.running is not None
        assert part.spec.ready is not None
        ending = asyncio.ensure_future(part.running.wait())
        try:
            while not await part.spec.ready():
                await asyncio.wait([ending], timeout=PROBE_EVERY_S)
                if ending.done():
                    await self._forget(part)
                    raise StartFailed(part.spec.name, _ended(ending.result()), self._tail(part))
        finally:
            ending.cancel()

    async def _until_it_ends(self, part: Part) -> None:
        """Wait until the process ends, or has to be started again because of what it follows."""
        assert part.running is not None
        began = _now()
        ending = asyncio.ensure_future(part.running.wait())
        called = asyncio.ensure_future(part.wanted_again.wait())
        try:
            await asyncio.wait([ending, called], return_when=asyncio.FIRST_COMPLETED)
        finally:
            called.cancel()
        part.ready.clear()
        for other in self.parts.values():
            if part.spec.name in other.spec.follows:
                other.wanted_again.set()
        if not ending.done():
            ending.cancel()
            self._report(Event(kind="restarting", part=part.spec.name, text="starts anew with what it depends on"))
            # Killed, not asked: asked, it would tidy up what its successor is to take over.
            await self._end(part, _at_once())
            return
        await self._forget(part)
        part.restarts = part.restarts.after_running(_now() - began)
        text = f"{_ended(ending.result())}; starting it again{_after(part.restarts.wait_s)}"
        self._report(Event(kind="died", part=part.spec.name, text=text, lines=self._tail(part)))

    def _failed_again(self, part: Part, failure: StartFailed) -> None:
        part.restarts = part.restarts.after_running(0.0)
        text = f"{failure.reason}; trying again{_after(part.restarts.wait_s)}"
        self._report(Event(kind="died", part=part.spec.name, text=text, lines=failure.lines))

    async def _end(self, part: Part, hurry: asyncio.Event) -> None:
        """Ask the process to end, kill it when it does not; returns when it is gone."""
        if part.running is None:
            return
        began = _now()
        if not hurry.is_set():
            part.running.signal(part.spec.stop_signal)
            await _first_of(part.spec.stop_grace_s, part.running.wait(), hurry.wait())
        part.running.signal(signal.SIGKILL)
        await _first_of(KILL_WAIT_S, part.running.wait())
        await self._forget(part)
        if self._stopping:
            self._set(part, "stopped")
            self._report(Event(kind="stopped", part=part.spec.name, seconds=_now() - began))

    async def _forget(self, part: Part) -> None:
        if part.running is not None and part.spec.takes_all:
            await part.running.clear()
        part.running = None

    def _set(self, part: Part, state: PartState) -> None:
        part.state = state
        self._on_change()

    def _tail(self, part: Part) -> tuple[str, ...]:
        return tuple(self._host.log_lines(part.spec.name, SHOWN_LOG_LINES))


async def _first_of(timeout_s: float, *waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of them is over, or after ``timeout_s``; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _at_once() -> asyncio.Event:
    hurry = asyncio.Event()
    hurry.set()
    return hurry


def _after(wait_s: float) -> str:
    return f" in {wait_s:g} s" if wait_s else ""


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _now() -> float:
    return asyncio.get_running_loop().time()
