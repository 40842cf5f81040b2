"""The launcher's record of how its children ended."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from pathlib import Path

import msgspec

from models.runtimes.protocol import EngineOrder, ExitReport, exit_path
from models.runtimes.sockets import remove

LOG_TAIL_BYTES = 8192
LONGEST_LINE = 300
KEPT_REPORTS = 256

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def last_log_line(path: str) -> str:
    """The last line of a log that says something, without colours; empty when there is none."""
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
            tail = log.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in (_ANSI.sub("", line).strip() for line in tail.splitlines()) if line]
    return lines[-1][:LONGEST_LINE] if lines else ""


def exit_report(pid: int, order: EngineOrder, wait_status: int) -> ExitReport:
    """``wait_status`` as waitpid gives it."""
    code = os.waitstatus_to_exitcode(wait_status)
    line = last_log_line(order.log_path)
    if code < 0:
        return ExitReport(pid=pid, replica_id=order.replica_id, signal=-code, last_log_line=line)
    return ExitReport(pid=pid, replica_id=order.replica_id, code=code, last_log_line=line)


def read_exit_report(control_path: str) -> ExitReport | None:
    """What the launcher left behind about the engine, None when it left nothing (or not yet)."""
    try:
        return msgspec.json.decode(Path(exit_path(control_path)).read_bytes(), type=ExitReport)
    except (OSError, msgspec.DecodeError):
        return None


class ExitRecords:
    """Writes reports beside the control sockets and keeps the newest KEPT_REPORTS of them."""

    def __init__(self, keep: int = KEPT_REPORTS) -> None:
        self._keep = keep
        self._written: deque[str] = deque()

    def write(self, control_path: str, report: ExitReport) -> None:
        path = exit_path(control_path)
        with contextlib.suppress(OSError):  # the folder may be gone with its installation
            # A reader must never see half a report.
            Path(path + ".new").write_bytes(msgspec.json.encode(report) + b"\n")
            os.replace(path + ".new", path)
            self._written.append(path)
        while len(self._written) > self._keep:
            remove(self._written.popleft())
