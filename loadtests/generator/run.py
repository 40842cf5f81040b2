"""One process of a run: a worker that sends, a leader that collects, or both in one.

The one that leads says when the run begins, in Unix time, so that workers elsewhere agree.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from typing import Any

import gevent
from gevent.event import Event

from loadtests.client.address import find_address
from loadtests.client.moments import clock
from loadtests.generator import hub
from loadtests.generator.collected import pack, unpack
from loadtests.generator.keys import shared
from loadtests.generator.leader import Leader
from loadtests.generator.stats import tell
from loadtests.generator.worker import Batch, Share, Worker
from loadtests.load.plan import Plan
from loadtests.load.settings import Settings
from loadtests.load.wish import Writer
from loadtests.suites import plan_of
from loadtests.target import Target

BEGIN, ROWS, READY = "roundhouse-begin", "roundhouse-rows", "roundhouse-ready"
STOP = "roundhouse-stop"
LEAD_S, REMOTE_LEAD_S = 0.3, 1.5  # until workers have heard of the beginning
FLUSH_S = 0.1
TOLD_AT_ONCE = 20
SEND_S = 1.0
READY_EVERY_S = 0.2
READY_PATIENCE_S = 30.0
STOP_PATIENCE_S = 5.0


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

    @property
    def shares_a_key(self) -> bool:
        return shared(self.plan, self._keys)

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
        if leader is None or self.worker is not None or not self.begun_unix_s or leader.complete():
            return
        self.environment.runner.send_message(STOP, {})
        give_up_s = clock() + STOP_PATIENCE_S
        while not leader.complete() and clock() < give_up_s:
            gevent.sleep(0.05)

    def quit(self) -> None:
        """Ctrl-C, which Locust's workers have had, too: it tells of that before it stops the test."""
        self.stop()
        self.end()

    def leave(self) -> None:
        """Ctrl-C in a worker: what it saw is told, and has the time to arrive; whoever leads ends it sooner."""
        self.finish()
        gevent.sleep(STOP_PATIENCE_S)
        os.kill(os.getpid(), signal.SIGTERM)

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
