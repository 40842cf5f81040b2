"""Where a run is led: collects what workers tell, polls the service's admin API, gives the plan's orders, prints a line
a second, and writes ``run.json`` when every worker has told that it is done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

import gevent

from loadtests.generator.collected import Collected
from loadtests.generator.live import Metrics, Progress
from loadtests.generator.strike import strike
from loadtests.generator.watch import ServiceWatch
from loadtests.generator.worker import Batch
from loadtests.load.plan import Plan, Step
from loadtests.load.settings import Settings
from loadtests.outcome.document import RUN_FILE, Seen, document, write
from loadtests.outcome.slo import Slo
from loadtests.surroundings import environment_of, target_of
from loadtests.target import Target
from loadtests.wire import CallFailed

PATIENCE_S = 10.0  # for workers that were to be done long ago


class Led(Protocol):
    """What a leader knows of its run. ``run_s``: since its beginning; ``workers``: how many there are."""

    settings: Settings
    target: Target
    plan: Plan
    workers: int
    begun_unix_s: float

    @property
    def run_s(self) -> float: ...

    @property
    def shares_a_key(self) -> bool: ...


class Leader:
    """Collects; there is one per run."""

    def __init__(self, run: Led, slo: Slo, out: Path | None, quiet: bool, metrics: Metrics | None) -> None:
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
        if self.run.shares_a_key:
            self.mark("one key", "quiet and noisy call with the same key: nothing tells them apart for the service")
        self._helpers = [gevent.spawn(self._watch), gevent.spawn(self._say)]
        self._helpers += [gevent.spawn(self._event, step) for step in self.run.plan.events]

    def take(self, batch: Batch) -> None:
        self.collected.take(batch)
        self.progress.take(batch.rows, batch.seconds)
        if self._metrics is not None:
            self._metrics.take(batch.rows, batch.seconds)

    def mark(self, what: str, detail: str = "") -> None:
        self.collected.marks.append({"at_s": round(max(0.0, self.run.run_s), 3), "what": what, "detail": detail})

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
            service=self._service.document(),
            marks=self.collected.marks,
            lost_workers=max(0, run.workers - len(self.collected.done)),
        )
        made = document(seen, run.plan, target_of(run.target), environment_of(), self._slo)
        self._out.mkdir(parents=True, exist_ok=True)
        write(self._out / RUN_FILE, made)
