"""The launcher's record of how its children ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from pathlib import Path

import msgspec

from models.runtimes.host import crashes
from models.runtimes.host.engine_log import prune
from models.runtimes.host.memory_kills import MemoryKills
from models.runtimes.protocol import EngineOrder, ExitReport, exit_path
from models.runtimes.sockets import answers, remove

KEPT_REPORTS = 256
FAILED_IN_ORDER = 1  # the code of a host that has told its owners and its log why
NOT_FOR_MEMORY = "sent by another process: the kernel reports no lack of memory"


def exit_report(pid: int, order: EngineOrder, wait_status: int, kills: MemoryKills | None = None) -> ExitReport:
    """``wait_status`` as waitpid gives it; ``kills`` knows what the kernel has ended for want of memory."""
    code = os.waitstatus_to_exitcode(wait_status)
    lines = crashes.log_lines(order.log_path)
    tail = tuple(lines[-crashes.TAIL_LINES :])
    if code >= 0:
        return ExitReport(
            pid=pid, replica_id=order.replica_id, code=code, last_log_line=crashes.last_words(lines), log_tail=tail
        )
    starved = kills.explain(pid) if kills is not None and -code == signal.SIGKILL else None
    return ExitReport(
        pid=pid,
        replica_id=order.replica_id,
        signal=-code,
        last_log_line=crashes.last_words(lines) if -code != signal.SIGKILL else "",
        log_tail=tail,
        meaning=starved or (NOT_FOR_MEMORY if -code == signal.SIGKILL and kills else crashes.MEANINGS.get(-code, "")),
        crashed_in=crashes.crashed_in(lines),
        core=crashes.core_note(
            pid, -code, wait_status, crashes.core_pattern(), os.getcwd(), crashes.core_limit_bytes()
        ),
        out_of_memory=starved is not None,
    )


def read_exit_report(control_path: str) -> ExitReport | None:
    """What the launcher left behind about the engine, None when it left nothing (or not yet)."""
    try:
        return msgspec.json.decode(Path(exit_path(control_path)).read_bytes(), type=ExitReport)
    except (OSError, msgspec.DecodeError):
        return None


class ExitRecords:
    """Writes reports beside the control sockets and keeps the newest KEPT_REPORTS of them; keeps logs few as well."""

    def __init__(self, keep: int = KEPT_REPORTS, kills: MemoryKills | None = None) -> None:
        self._keep = keep
        self._kills = kills or MemoryKills()
        self._written: deque[str] = deque()

    def take(
        self, pid: int, order: EngineOrder, wait_status: int, *, written_to: str | None = None, shared_with: int = 0
    ) -> ExitReport:
        """Note how the child ended: for its owners, at the end of its own log, and in what is returned.

        ``written_to``: the log of its process where that is not the replica's own, because it has ``shared_with`` more.
        """
        spoke = msgspec.structs.replace(order, log_path=written_to or order.log_path)
        report = exit_report(pid, spoke, wait_status, self._kills)
        report = msgspec.structs.replace(report, shared_with=shared_with)
        self.write(order.control_path, report)
        for path in (order.http_path, order.control_path):
            if not answers(path):  # killed, it could not take its sockets along
                remove(path)
        _close_log(order.log_path, report)
        prune(Path(order.log_path).parent, time.time())
        return report

    def write(self, control_path: str, report: ExitReport) -> None:
        path = exit_path(control_path)
        with contextlib.suppress(OSError):  # the folder may be gone with its installation
            # A reader must never see half a report.
            Path(path + ".new").write_bytes(msgspec.json.encode(report) + b"\n")
            os.replace(path + ".new", path)
            self._written.append(path)
        while len(self._written) > self._keep:
            remove(self._written.popleft())


def _close_log(log_path: str, report: ExitReport) -> None:
    """An engine that was killed cannot say so itself; one that failed has."""
    if report.code in (0, FAILED_IN_ORDER) or not os.path.exists(log_path):
        return
    said = f"{report.headline()}{f'; {report.core}' if report.core else ''}"
    at = time.strftime("%Y-%m-%d %H:%M:%S,000")
    with contextlib.suppress(OSError), open(log_path, "a", encoding="utf-8") as log:
        log.write(f"{at} ERROR roundhouse.launcher: {said}\n")
