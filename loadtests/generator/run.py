"""One process of a run: a worker that sends, a leader that collects, or both in one.

The leader says when the run begins (Unix time, so that workers elsewhere agree), polls the service's admin API, prints
a line a second, and writes ``run.json`` when every worker has told that it is done.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from loadtests.client.address import find_address
from loadtests.client.moments import clock
from loadtests.generator import hub
from loadtests.generator.collected import Collected, pack, unpack
from loadtests.generator.live import Metrics, Progress
from loadtests.generator.stats import tell
from loadtests.generator.strike import strike
from loadtests.generator.watch import ServiceWatch
from loadtests.generator.worker import Batch, Share, Worker
from loadtests.load.plan import Plan, Step
from loadtests.load.settings import Settings
from loadtests.load.wish import Writer
from loadtests.outcome.document import RUN_FILE, Seen, document, write
from loadtests.outcome.slo import Slo
from loadtests.suites import plan_of
from loadtests.surroundings import environment_of, target_of
from loadtests.target import Target
from loadtests.wire import CallFailed

BEGIN, ROWS, READY = "roundhouse-begin", "roundhouse-rows", "roundhouse-ready"
STOP = "roundhouse-stop"
LEAD_S, REMOTE_LEAD_S = 0.3, 1.5  # until workers have heard of the beginning
FLUSH_S = 0.1
TOLD_AT_ONCE = 20
SEND_S = 1.0
PATIENCE_S = 10.0  # for workers that were to be done long ago
READY_EVERY_S = 0.2
READY_PATIENCE_S = 30.0
STOP_PATIENCE_S = 5.0


class Leader:
    """Collects; there is one per run."""

    def __init__(self, run: Run, slo: Slo, out: Path | None, quiet: bool, metrics: Metrics | None) -> None:
        self.run = run
        self.collected = Collected()
        self.progress = Progress(run.plan.end_s)
        self._slo, self._out, self._quiet, self._metrics = slo, out, quiet, metrics
        self.ready: set[str] = set()
        self._service = self._new_watch()
        self._helpers: list[Any] = []
        self._written = False

    def _new_watch(self) -> ServiceWatch:
        settings = self.run.settings
        return ServiceWatch(self.run.target, frozenset(settings.models + settings.embedders))

    def begin(self) -> None:
        """Also once more, from Locust's page: then ``run.json`` is the new run's."""
        self.collected, self.progress = Collected(), Progress(self.run.plan.end_s)
        self._service, self._written = self._new_watch(), False
        self._helpers = [gevent.spawn(self._watch), gevent.spawn(self._say)]
        self._helpers += [gevent.spawn(self._event, step) for step in self.run.plan.events]

    def take(self, batch: Batch) -> None:
        self.collected.take(batch)
        self.progress.take(batch.rows, batch.seconds)
        if self._metrics is not None:
            self._metrics.take(batch.rows, batch.seconds)

    def mark(self, what: str, detail: str = "") -> None:
        self.collected.marks.append({"at_s": round(self.run.run_s, 3), "what": what, "detail": detail})

    def complete(self) -> bool:
        """Every worker is done, or will not be."""
        limit_s = self.run.plan.end_s + self.run.settings.drain_s + PATIENCE_S
        return len(self.collected.done) >= self.run.workers or self.run.run_s > limit_s

    def _watch(self) -> None:
        while not self._service.useless:
            at_s = self.run.run_s
            self._service.look(at_s)
            gevent.sleep(max(0.01, self.run.settings.poll_s - (self.run.run_s - at_s)))

    def _say(self) -> None:
        at_terminal = sys.stderr.isatty()
        while not self._quiet:
            gevent.sleep(1.0 if at_terminal else 5.0)
            line = self.progress.line(max(0.0, self.run.run_s))
            print(
                f"\r\x1b[K{line}" if at_terminal else line, end="" if at_terminal else "\n", file=sys.stderr, flush=True
            )

    def _event(self, step: Step) -> None:
        gevent.sleep(max(0.0, step.at_s - self.run.run_s))
        try:
            done = strike(self.run.target, step.what, self.run.settings.models)
        except CallFailed as problem:
            self.mark(f"{step.do} failed", str(problem))
        else:
            self.mark(done["what"], done["detail"])

    def end(self) -> None:
        """Write what there is, once."""
        gevent.killall(self._helpers)
        if self._written:
            return
        self._written = True
        if not self._quiet and sys.stderr.isatty():
            print(file=sys.stderr)
        if self._out is None:
            return
        run = self.run
        seen = Seen(
            settings=run.settings,
            started_unix_s=run.begun_unix_s,
            duration_s=max(1e-3, min(run.plan.end_s, run.run_s)),
            rows=self.collected.rows,
            seconds=self.collected.seconds,
            workers=list(self.collected.workers.values()),
            service=self._service.document() or {},
            marks=self.collected.marks,
        )
        made = document(seen, run.plan, target_of(run.target), environment_of(), self._slo)
        self._out.mkdir(parents=True, exist_ok=True)
        write(self._out / RUN_FILE, made)


class Run:
    """``keys``: by tenant. ``environment``: Locust's. Of each process one; ``leader``: None in a mere worker."""

    def __init__(self, settings: Settings, target: Target, keys: dict[str, str], environment: Any) -> None:
        """Raises SettingsError, TargetError, OSError."""
        self.settings = settings
        self.target = target
        self.environment = environment
        self.plan: Plan = plan_of(settings)
        self.workers = 1
        self.begun_unix_s = 0.0
        self.leader: Leader | None = None
        self.worker: Worker | None = None
        self._keys = keys
        self._address = find_address(target)
        self._begun = Event()
        self._helpers: list[Any] = []
        self._turning: Any = None

    @property
    def run_s(self) -> float:
        """Seconds since the beginning, negative before; 0 when none was said."""
        return time.time() - self.begun_unix_s if self.begun_unix_s else 0.0

    def lead(self, workers: int, remote: bool) -> None:
        """Begin: here, or by telling the workers once all of them listen."""
        self.workers = workers
        if remote:
            gevent.spawn(self._lead_others)
            return
        self._set_off(LEAD_S)
        self.begin(self.begun_unix_s, 0, workers)

    def _set_off(self, lead_s: float) -> None:
        self.begun_unix_s = time.time() + lead_s
        if self.leader is not None:
            self.leader.begin()

    def _lead_others(self) -> None:
        give_up_s = clock() + READY_PATIENCE_S
        while self.leader is not None and len(self.leader.ready) < self.workers and clock() < give_up_s:
            gevent.sleep(0.05)
        self._set_off(REMOTE_LEAD_S)
        message = {"unix_s": self.begun_unix_s, "workers": self.workers}
        self.environment.runner.send_message(BEGIN, message)

    def report_ready(self) -> None:
        """As a worker: again and again, since the master may not listen yet."""

        def tell_master() -> None:
            while not self._begun.is_set():
                self.environment.runner.send_message(READY, {})
                gevent.sleep(READY_EVERY_S)

        gevent.spawn(tell_master)

    def begin(self, unix_s: float, number: int, workers: int) -> None:
        """As a worker."""
        self.begun_unix_s, self.workers = unix_s, workers
        caller = hub.new_caller(self._address, self.settings.timeout_s, self.settings.keep_alive)
        share = Share(number, workers, clock() + (unix_s - time.time()))
        writer = Writer(self.settings, self._keys)
        self.worker = Worker(self.settings, self.plan, writer, caller, share)
        self._turning = hub.Turning(caller)
        self._turning.__enter__()
        self.worker.schedule()
        gc.collect()
        gc.freeze()  # what is there stays: no pause is spent on looking at it again
        self._helpers = [gevent.spawn(self._look), gevent.spawn(self._flush)]
        self._begun.set()

    def await_beginning(self) -> Worker:
        """For users: returns when the run has begun."""
        self._begun.wait()
        assert self.worker is not None  # set before the event is
        gevent.sleep(max(0.0, -self.worker.run_s))
        return self.worker

    def _look(self) -> None:
        assert self.worker is not None
        while True:
            gevent.sleep(1.0)
            self.worker.look()

    def _flush(self) -> None:
        """Rows to whoever collects them; and the run's end, when it has come."""
        worker, told_s = self.worker, 0.0
        assert worker is not None
        while not worker.over:
            gevent.sleep(FLUSH_S)
            if worker.quiet() or worker.run_s > self.plan.end_s + self.settings.drain_s:
                self.finish()
            elif self.leader is not None or clock() - told_s > SEND_S:
                told_s = clock()
                self._tell()

    def finish(self) -> None:
        """As a worker: what is open now was not answered; told at once."""
        worker = self.worker
        if worker is None or worker.over:
            return
        worker.finish()
        worker.look()
        self._tell()

    def _tell(self) -> None:
        """A few rows at a time: what arrives meanwhile is not to wait for the bookkeeping."""
        worker = self.worker
        assert worker is not None
        whole = Batch()
        while True:
            batch = worker.take(TOLD_AT_ONCE)
            tell(self.environment, batch.rows)
            if self.leader is not None:
                self.leader.take(batch)
            else:
                whole.rows += batch.rows
                whole.seconds += batch.seconds
                whole.health, whole.done = batch.health, batch.done
            if not worker.untold:
                break
            gevent.sleep(0)
        if self.leader is None:
            self.environment.runner.send_message(ROWS, {"parcel": pack(whole)})

    def stop(self) -> None:
        """Somebody stops the test by hand: users must not wait for the end of the plan, and no row may be lost."""
        self.finish()
        leader = self.leader
        if leader is None or self.worker is not None or leader.complete():
            return
        self.environment.runner.send_message(STOP, {})
        give_up_s = clock() + STOP_PATIENCE_S
        while not leader.complete() and clock() < give_up_s:
            gevent.sleep(0.05)

    def take_parcel(self, parcel: bytes) -> None:
        """As the leader."""
        if self.leader is not None:
            self.leader.take(unpack(parcel))

    def end(self) -> None:
        """Locust has stopped the test: by the run's own end, or by somebody's hand."""
        self.finish()
        others = [helper for helper in self._helpers if helper is not gevent.getcurrent()]
        gevent.killall(others)
        if self._turning is not None and self.worker is not None:
            self._turning.__exit__(None, None, None)
            self.worker.caller.close()
            self._turning = None
        if self.leader is not None:
            self.leader.end()
        self._begun.clear()  # another run, begun from Locust's page, has a beginning of its own
        self.begun_unix_s = 0.0


def keys_of(target: Target, tenants: dict[str, str]) -> dict[str, str]:
    """By tenant; "" is whoever calls in a suite without tenants."""
    return {"": target.api_key, "quiet": target.api_key, "noisy": tenants.get("noisy") or target.api_key}


def tenants_of(
    environ: Callable[[str, str], str] = lambda name, default: os.environ.get(name, default),
) -> dict[str, str]:
    noisy = environ("ROUNDHOUSE_NOISY_KEY", "")
    return {"noisy": noisy} if noisy else {}
