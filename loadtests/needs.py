"""What has to be so before a load begins, told before anything is asked of a model."""

from __future__ import annotations

import argparse
import socket
import tempfile
from pathlib import Path

from loadtests.load.settings import Settings, SettingsError
from loadtests.target import Target, TargetError
from loadtests.wire import Refused, get_json

LOOPBACK = "127.0.0.1"
ORDERING = ("zero", "chaos")  # suites that need the admin API


def make_folder(out: Path) -> None:
    """Raises SettingsError where nothing can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as problem:
        reason = "is no folder" if isinstance(problem, FileExistsError) else problem.strerror
        raise SettingsError(f"--out: nothing can be written to {out} ({reason}); name another folder") from None


def need_ports(options: argparse.Namespace) -> None:
    """Raises SettingsError for one that is taken: Locust would run without its page."""
    asked = {name: port for name in ("web", "metrics_port") if (port := getattr(options, name, None))}
    if len(set(asked.values())) < len(asked):
        raise SettingsError("--web and --metrics-port must be two ports")
    for name, port in asked.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as problem:
                option = f"--{name.replace('_', '-')}"
                raise SettingsError(f"{option}: port {port} cannot be had ({problem.strerror}); name another") from None


def need_admin(settings: Settings, target: Target) -> None:
    """Raises TargetError where a suite would give orders that nobody takes."""
    if settings.suite not in ORDERING:
        return
    asked = f"{settings.suite} gives orders to a Roundhouse"
    try:
        get_json(target, "/admin/v1/status", admin=True)
    except Refused as refused:
        if refused.status in (401, 403):
            raise TargetError(f"{asked}: set ROUNDHOUSE_ADMIN_KEY to an admin's key ({refused})") from None
        raise TargetError(f"{asked}, and {target.url} has no admin API ({refused}); other suites only ask") from None
