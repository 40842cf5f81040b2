"""What every locustfile of ``loadtests/locustfiles`` is made of: ``attach(name)``, a shape and a user class."""

from __future__ import annotations

import logging
import os
import signal
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, User, constant, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtests.generator.keys import keys_of, tenants_of
from loadtests.generator.leader import Leader
from loadtests.generator.live import Metrics
from loadtests.generator.run import BEGIN, READY, ROWS, STOP, Run
from loadtests.generator.script import play
from loadtests.load.settings import SettingsError, decode
from loadtests.outcome.slo import NO_SLO, SloError, read_slo
from loadtests.served import models_of
from loadtests.suites import SUITES
from loadtests.target import TargetError, find_target, home_of
from loadtests.wire import CallFailed

STOP_TIMEOUT_S = 1.0  # for users; requests that are open at the end have been waited for by then (drain_s)

_running: list[Run] = []  # of this process; Locust makes shapes and users without arguments


def attach(name: str) -> None:
    """Make this locustfile the suite ``name``."""
    listeners: Any = events
    listeners.init_command_line_parser.add_listener(_add_options)
    listeners.init.add_listener(lambda environment, **_: _prepare(name, environment))


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--suite-settings", default="", help="file with settings (JSON); the suite's preset without")
    parser.add_argument("--suite-slo", default="", help="file with goals (YAML)")
    parser.add_argument("--suite-out", default="", help="folder for run.json")
    parser.add_argument("--suite-quiet", action="store_true", help="no progress on the terminal")
    parser.add_argument("--suite-metrics-port", type=int, default=0, help="metrics for Prometheus, on loopback")


def _prepare(name: str, environment: Any) -> None:
    options = environment.parsed_options
    if options is None:  # used as a library: whoever makes the environment sets the users up
        return
    try:
        run = _new_run(name, options, environment)
        is_worker = isinstance(environment.runner, WorkerRunner)
        if not is_worker:
            _make_leader(run, options)
    except (TargetError, CallFailed, SettingsError, SloError, OSError) as problem:
        sys.exit(f"loadtests: {problem}")
    _running[:] = [run]
    # Users of these loads are cheap: that they all begin at once is no problem here.
    logging.getLogger("locust.runners").addFilter(lambda record: "spawn rate is very high" not in str(record.msg))
    environment.host = run.target.url
    environment.events.test_stopping.add_listener(lambda **_: run.stop())
    environment.stop_timeout = STOP_TIMEOUT_S
    runner = environment.runner
    if is_worker:
        runner.register_message(BEGIN, _begin_as_told)
        runner.register_message(STOP, lambda **_: run.finish())
        environment.events.test_stop.add_listener(lambda **_: run.end())
        gevent.signal_handler(signal.SIGINT, run.leave)
        run.report_ready()
        return
    if isinstance(runner, MasterRunner):
        runner.register_message(READY, lambda msg, **_: _ready(run, msg.node_id))
        runner.register_message(ROWS, lambda msg, **_: run.take_parcel(msg.data["parcel"]))
    environment.events.test_start.add_listener(lambda **_: _start(run))
    environment.events.test_stop.add_listener(lambda **_: run.end())
    environment.events.quitting.add_listener(lambda **_: run.quit())
    if environment.web_ui is not None:
        # Locust waits for its page's end, and there a KeyboardInterrupt is lost; its handler of SIGTERM is not.
        gevent.signal_handler(signal.SIGINT, os.kill, os.getpid(), signal.SIGTERM)


def _new_run(name: str, options: Any, environment: Any) -> Run:
    given = options.suite_settings
    settings = decode(Path(given).read_bytes()) if given else SUITES[name].settings()
    target = find_target(os.environ, settings.allow_remote)
    if not settings.models and not settings.embedders:
        settings = models_of(target, settings)
    return Run(settings, target, keys_of(target, tenants_of()), environment)


def _make_leader(run: Run, options: Any) -> None:
    default = home_of(os.environ) / "loadtests" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    slo = read_slo(Path(options.suite_slo)) if options.suite_slo else NO_SLO
    metrics = None
    if options.suite_metrics_port:
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        start_http_server(options.suite_metrics_port, "127.0.0.1", registry)
        metrics = Metrics(registry, run.settings.suite)
    out = Path(options.suite_out) if options.suite_out else default
    run.leader = Leader(run, slo, out, options.suite_quiet, metrics)


def _start(run: Run) -> None:
    runner = run.environment.runner
    remote = isinstance(runner, MasterRunner)
    run.lead(runner.worker_count if remote else 1, remote)


def _ready(run: Run, worker: str) -> None:
    if run.leader is not None:
        run.leader.ready.add(worker)


def _begin_as_told(environment: Any, msg: Any, **_: Any) -> None:
    _running[0].begin(msg.data["unix_s"], environment.runner.worker_index, msg.data["workers"])


class SuiteShape(LoadTestShape):
    """Users of a closed load by the plan; one per worker of the others, which starts everything that is due."""

    abstract = True

    def tick(self) -> tuple[int, float] | None:
        run = _running[0]
        leader, at_s = run.leader, max(0.0, run.run_s)
        if leader is None or (run.begun_unix_s and leader.complete()):
            return None
        workers = max(1, getattr(run.environment.runner, "worker_count", 1))
        if run.plan.kind != "closed":
            return workers, float(workers)
        users = run.plan.users_at(at_s) or (run.plan.phases[-1].users if at_s else 1)
        return users, float(max(1, run.plan.most_users))


class SuiteUser(User):
    """``kind`` of the plan says what it does."""

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        while not _running:  # a worker may be told to spawn users before it has read what they are to do
            gevent.sleep(0.05)
        self.load = _running[0]
        self.worker = self.load.await_beginning()
        self.converse = self.worker.user()

    @task
    def act(self) -> None:
        worker, plan = self.worker, self.load.plan
        if plan.kind == "script":
            play(self.load, worker)
        elif plan.kind == "open":
            while not worker.over:  # its arrivals come by themselves
                gevent.sleep(0.2)
        elif worker.begins:
            self.converse()
            return
        raise StopUser
