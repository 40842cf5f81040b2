"""One run of the service, from the lock to the last process: what ``roundhouse up`` does once everything is decided."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.service import credentials, ray_head, record
from gateway.service.departure import leave
from gateway.service.guardian import Guardian
from gateway.service.host import LocalHost
from gateway.service.parts import Installation, all_parts, reachable
from gateway.service.ports import check_free
from gateway.service.probes import http_ok
from gateway.service.processes import ProcessId, identify
from gateway.service.record import PartRecord, ServiceRecord, ServiceState
from gateway.service.report import Event, Report
from gateway.service.spec import PartSpec
from gateway.service.supervisor import PROBE_EVERY_S, StartFailed, Supervisor
from gateway.service.sweep import Swept, sweep

READY_TIMEOUT_S = 60.0
SWEEP_GRACE_S = 2.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LeftBehind(Exception):
    """Processes that could not be ended; the message lists them."""


@dataclass(frozen=True, slots=True)
class Run:
    """``serving`` is reported once everything is ready. ``detached``: no terminal waits for this process."""

    installation: Installation
    url: str
    serving: Event
    detached: bool = False


def run(this: Run, report: Report, make_parts: Callable[[Installation], tuple[PartSpec, ...]] = all_parts) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. Nothing that was started is left when this returns or raises.

    Raises AlreadyRunning, PortInUse, StartFailed, OSError; LeftBehind.
    """
    home = this.installation.home.create()
    held = record.lock(home)
    try:
        clear_leftovers(this.installation, report)
        for host, port in this.installation.listens:
            check_free(host, port)
        if this.installation.ray_address is None and this.installation.cluster is None:
            ray_head.choose_port_again(home)
        asyncio.run(_Service(this, report, make_parts(this.installation)).run())
    finally:
        os.close(held)


def clear_leftovers(installation: Installation, report: Report) -> None:
    """End what an earlier run left when it was killed. Raises LeftBehind."""
    swept = sweep(lambda: record.processes(installation.home), grace_s=SWEEP_GRACE_S)
    _complain(swept)
    if swept.ended:
        report(Event(kind="note", text=f"Ended {len(swept.ended)} processes that an earlier run had left behind."))
    record.remove(installation.home)


class _Service:
    def __init__(self, this: Run, report: Report, parts: tuple[PartSpec, ...]) -> None:
        self._this = this
        self._home = this.installation.home
        self._report = report
        self._host = LocalHost(self._home.logs)
        self._supervisor = Supervisor(parts, self._host, report, self._write_record)
        self._state: ServiceState = "starting"
        self._since_unix_s = time.time()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._guardian: Guardian | None = None

    async def run(self) -> None:
        self._host.adopt_orphans()
        loop = asyncio.get_running_loop()
        for signum in STOP_SIGNALS:
            loop.add_signal_handler(signum, self._on_signal)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        self._guardian = Guardian(self._home)
        try:
            await self._until_stopped()
        finally:
            await self._end(self._guardian)
            self._guardian.dismiss()
            for signum in STOP_SIGNALS:
                # All is done: one more Ctrl-C must not turn a clean end into a crash.
                loop.remove_signal_handler(signum)
                signal.signal(signum, signal.SIG_IGN)

    async def _until_stopped(self) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            stopping.cancel()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _serve(self) -> None:
        began_s = time.monotonic()
        self._write_record()
        self._home.reclaim_notice.unlink(missing_ok=True)  # of an earlier leave
        await self._supervisor.start()
        if self._this.installation.serves:
            await self._answers()
            await self._write_credentials()
        self._state = "serving"
        self._write_record()
        took = Event(kind="note", text=f"Ready after {time.monotonic() - began_s:.1f} s.")
        self._report(took)
        self._report(self._this.serving)
        await self._supervisor.serve()

    async def _answers(self) -> None:
        at = self._this.installation.gateway
        ready = http_ok(reachable(at.host), at.port, "/readyz", tls=at.tls is not None)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await ready():
                    await asyncio.sleep(PROBE_EVERY_S)
        except TimeoutError:
            lines = tuple(self._host.log_lines("gateway", 12))
            raise StartFailed("gateway", f"does not say that it is ready after {READY_TIMEOUT_S:g} s", lines) from None

    async def _write_credentials(self) -> None:
        from redis import RedisError

        from models.store.errors import StoreError

        try:
            await asyncio.to_thread(credentials.ensure, self._home, self._this.url, time.time())
        except (RedisError, StoreError) as problem:
            raise StartFailed("keys", f"could not be made: {problem}", ()) from problem

    async def _end(self, guardian: Guardian) -> None:
        self._stop.set()
        was_serving = self._state == "serving"
        self._state = "stopping"
        self._write_record()
        self._report(Event(kind="stopping", text="Stopping."))
        if was_serving and self._this.installation.joined:
            await leave(self._home, self._report, self._hurry)
        await self._supervisor.stop(self._hurry)

        guarding = guardian.id

        def left() -> frozenset[ProcessId]:
            return record.processes(self._home, also_below=os.getpid()) - {guarding}

        grace_s = 0.0 if self._hurry.is_set() else SWEEP_GRACE_S
        swept = await asyncio.to_thread(sweep, left, grace_s=grace_s)
        record.remove(self._home)
        _complain(swept)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        else:
            self._report(Event(kind="note", text="Stopping; once more to kill everything at once."))
        self._stop.set()

    def _on_child(self) -> None:
        """Some process below this one has ended."""
        self._host.reap_orphans()
        if not self._stop.is_set() and self._guardian is not None:
            text = self._guardian.check()
            if text is not None:
                self._report(Event(kind="died", part="guard", text=text))

    def _write_record(self) -> None:
        me = identify(os.getpid())
        assert me is not None, "a running process is alive"
        this = self._this.installation
        parts = (
            PartRecord(
                name=part.spec.name,
                state=part.state,
                pid=part.process.pid if part.process else None,
                start_ticks=part.process.start_ticks if part.process else None,
                restarts=part.restarts.total,
                log=str(self._host.log_path(part.spec.name)),
            )
            for part in self._supervisor.parts.values()
        )
        record.write(
            self._home,
            ServiceRecord(
                pid=me.pid,
                start_ticks=me.start_ticks,
                instance=self._home.instance,
                home=str(self._home.root),
                url=self._this.url,
                config=str(self._this.installation.config),
                admin_url=this.gateway.admin_url,
                tls_cert=None if this.gateway.tls is None else str(this.gateway.tls.cert),
                state=self._state,
                since_unix_s=self._since_unix_s,
                detached=self._this.detached,
                parts=tuple(parts),
            ),
        )


def _complain(swept: Swept) -> None:
    if swept.left:
        pids = ", ".join(str(process.pid) for process in sorted(swept.left, key=lambda process: process.pid))
        raise LeftBehind(f"these processes could not be ended: {pids}")
