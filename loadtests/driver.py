"""Starts Locust for a suite, and waits for it. Locust has a process of its own: it replaces the standard library's
sockets with its own."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from loadtests.gateway.ports import free_port
from loadtests.load.settings import Settings, encode
from loadtests.needs import LOOPBACK, make_folder, need_admin, need_ports
from loadtests.options import given
from loadtests.outcome.document import RUN_FILE, DocumentError, read
from loadtests.served import models_of
from loadtests.suites import SUITES, plan_of
from loadtests.suites.noisy_neighbour import NOISY
from loadtests.target import Target, find_target, home_of, named_target
from loadtests.wire import CallFailed, delete, post_json

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_FILE = "settings.json"


class NoRun(Exception):
    """Locust ended without one; the message says how."""


def run_suite(options: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """The run's document, and its folder. Raises NoRun, TargetError, SettingsError, CallFailed, OSError."""
    need_locust()
    need_ports(options)
    settings, target = settle(options)
    out = folder(options, settings)
    return run_once(options, settings, target, out), out


def need_locust() -> None:
    """Raises NoRun."""
    if importlib.util.find_spec("locust") is None:
        raise NoRun("Locust is not installed; install it with: pip install 'roundhouse-serve[loadtest]'")


def folder(options: argparse.Namespace, settings: Settings) -> Path:
    """``--out``, else one of its own for each run."""
    if hasattr(options, "out"):
        return Path(options.out).absolute()
    default = home_of(os.environ) / "loadtests" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{settings.suite}"
    others = (default.with_name(f"{default.name}-{number}") for number in itertools.count(2))
    return next(place for place in itertools.chain([default], others) if not place.exists())


def run_once(options: argparse.Namespace, settings: Settings, target: Target, out: Path) -> dict[str, Any]:
    """One run of settings that are settled; ``out`` has its files. Raises SettingsError, NoRun, CallFailed, OSError."""
    make_folder(out)
    (out / RUN_FILE).unlink(missing_ok=True)
    (out / SETTINGS_FILE).write_bytes(encode(settings) + b"\n")
    with tenants(settings, target) as keys:
        status = _locust(command(options, settings, out), {**target.environment(), **keys})
    try:
        return read(out / RUN_FILE)
    except DocumentError as problem:
        ended = f"Locust ended with status {status} before it had figures"
        raise NoRun(f"{ended} ({problem})" if (out / RUN_FILE).exists() else ended) from None


def settle(options: argparse.Namespace) -> tuple[Settings, Target]:
    """What is to be run against what; nothing has been asked of a model yet."""
    remote = getattr(options, "allow_remote", False)
    asked = getattr(options, "target", "")
    settings = SUITES[options.suite].settings(**given(options))
    target = named_target(asked, os.environ, remote) if asked else find_target(os.environ, remote)
    settings = models_of(target, settings)
    settings = msgspec.structs.replace(
        settings,
        salt=settings.salt or secrets.token_hex(3),
        trace=str(Path(settings.trace).absolute() if settings.trace else ""),
    )
    need_admin(settings, target)
    plan = plan_of(settings)
    return (msgspec.structs.replace(settings, workers=1) if plan.script else settings), target


def command(options: argparse.Namespace, settings: Settings, out: Path) -> list[str]:
    file = ROOT / "loadtests" / "locustfiles" / f"{settings.suite.replace('-', '_')}.py"
    web = getattr(options, "web", 0)
    # With its page, Locust's master listens before it knows the suite's messages, and warns of each; they are repeated.
    level = "ERROR" if web and settings.workers > 1 else "WARNING"
    words = [sys.executable, "-m", "locust", "-f", str(file), "--loglevel", level, "--exit-code-on-error", "0"]
    words += ["--suite-settings", str(out / SETTINGS_FILE), "--suite-out", str(out)]
    words += ["--html", str(out / "locust.html")]
    # With a JSON file, Locust does not print its table: ours has the figures in full resolution.
    words += ["--csv", str(out / "locust"), "--json-file", str(out / "locust")]
    words += (
        ["--web-host", LOOPBACK, "--web-port", str(web), "--autostart"] if web else ["--headless", "--only-summary"]
    )
    if settings.workers > 1:
        port = str(free_port())
        words += ["--processes", str(settings.workers), "--master-bind-host", LOOPBACK, "--master-bind-port", port]
        words += ["--master-host", LOOPBACK, "--master-port", port]
    if hasattr(options, "slo"):
        words += ["--suite-slo", str(options.slo.absolute())]
    if hasattr(options, "metrics_port"):
        words += ["--suite-metrics-port", str(options.metrics_port)]
    return [*words, "--suite-quiet"] if hasattr(options, "quiet") else words


@contextlib.contextmanager
def tenants(settings: Settings, target: Target) -> Iterator[dict[str, str]]:
    """A key of its own for the noisy neighbour, for as long as it is needed: ROUNDHOUSE_NOISY_KEY, else a new one.

    A target without an admin API has one key for both: then the run has a mark that says so.
    """
    if settings.suite != "noisy-neighbour" or os.environ.get("ROUNDHOUSE_NOISY_KEY") or not target.admin_key:
        yield {}
        return
    made = post_json(target, "/admin/v1/keys", {"name": f"loadtest {NOISY} {settings.salt}"}, admin=True)
    try:
        yield {"ROUNDHOUSE_NOISY_KEY": str(made["key"])}
    finally:
        with contextlib.suppress(CallFailed):
            delete(target, f"/admin/v1/keys/{made['key_id']}")


def _locust(words: list[str], environ: dict[str, str]) -> int:
    """Ctrl-C reaches Locust too, which then writes what it has; wait for it, until somebody asks again."""
    whole = {**os.environ, **environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=whole, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for asked in itertools.count(1):
        try:
            return process.wait()
        except KeyboardInterrupt:
            if asked > 1:
                process.terminate()
    raise AssertionError("a count has no end")
