"""Whether an address can be listened on, and who has it otherwise."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from gateway.service.processes import PROC, command_line, environment, everyone

LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


class PortInUse(Exception):
    """The message says by whom, if that can be known, and what to do."""


def free_port(host: str) -> int:
    """A port that is free now. Raises OSError for an address that is not this machine's."""
    with _socket(host) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_free(host: str, port: int) -> None:
    """Raises PortInUse, and OSError for an address that cannot be used at all."""
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            raise PortInUse(f"port {port} on {host} is in use{_by(port)}; choose another with --port") from problem


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)


def _by(port: int) -> str:
    pid = owner_of(port)
    if pid is None:
        return ""
    home = environment(pid).get("ROUNDHOUSE_HOME")
    if home:
        return f" by the Roundhouse in {home} (pid {pid}; end it with: roundhouse down --home {home})"
    return f" by pid {pid}: {' '.join(command_line(pid).split())[:80]}"


def owner_of(port: int) -> int | None:
    """The process of this user that listens on a TCP port."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(PROC / "net" / table, port)}
    sockets = {f"socket:[{inode}]" for inode in inodes}
    if not sockets:
        return None
    for process in everyone():
        try:
            with os.scandir(PROC / str(process.pid) / "fd") as entries:
                if any(_target(entry.path) in sockets for entry in entries):
                    return process.pid
        except OSError:
            continue  # it ended, or is closed to us
    return None


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _listening(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port]
