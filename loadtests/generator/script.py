"""The suite ``zero``: brings a model to a tier by the admin API, then sends the one request that is measured."""

from __future__ import annotations

import gevent

from loadtests.client.moments import clock
from loadtests.coldstart.admin import Admin
from loadtests.generator.run import Run
from loadtests.generator.worker import Worker
from loadtests.load.plan import Step
from loadtests.wire import CallFailed

SETTLE_S = 0.3  # the order's own traces (events, files being closed) are over by then


def play(run: Run, worker: Worker) -> None:
    """Every step, one after the other. What could not be brought to its tier is marked, and not asked."""
    worker.scripted = False
    admin = Admin(run.target, clock, gevent.sleep)
    try:
        for step in run.plan.script:
            if worker.over or worker.run_s > run.plan.end_s:
                _mark(run, "stopped", "the time was over before the script")
                return
            _step(run, worker, admin, step)
    finally:
        worker.scripted = True


def _step(run: Run, worker: Worker, admin: Admin, step: Step) -> None:
    try:
        bring(admin, step.model, step.what)
    except CallFailed as problem:
        _mark(run, "not reached", f"{step.model} {step.what}: {problem}")
        return
    gevent.sleep(SETTLE_S)
    _mark(run, "reached", f"{step.model} {step.what}")
    if step.arrival is not None:
        worker.one(step.arrival)


def bring(admin: Admin, model: str, tier: str) -> None:
    """Raises CallFailed."""
    if tier == "disk":
        admin.stop(model)
        return
    admin.wake(model)
    if tier == "host":
        admin.put_to_sleep(model)


def _mark(run: Run, what: str, detail: str) -> None:
    if run.leader is not None:
        run.leader.mark(what, detail)
