"""``service.json``: what runs, for other commands to read. The lock beside it says whether it is still true."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Literal

import msgspec

from gateway.service.processes import ProcessId, alive, family, identify
from models.home import Home

DYING_S = 5.0
ServiceState = Literal["starting", "serving", "stopping"]


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str
    pid: int | None
    start_ticks: int | None
    restarts: int
    log: str


class ServiceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``start_ticks``: see ProcessId. ``since_unix_s``: when the supervisor was started.

    ``admin_url``: where the admin API is, when that is elsewhere. ``tls_cert``: the file whose certificate they show.
    """

    pid: int
    start_ticks: int
    instance: str
    home: str
    url: str
    config: str
    state: ServiceState
    since_unix_s: float
    detached: bool = False
    admin_url: str | None = None
    tls_cert: str | None = None
    parts: tuple[PartRecord, ...] = ()

    @property
    def supervisor(self) -> ProcessId:
        return ProcessId(self.pid, self.start_ticks)


class AlreadyRunning(Exception):
    """Another supervisor holds this installation. ``record`` is None while it is only beginning."""

    def __init__(self, home: Home, record: ServiceRecord | None) -> None:
        where = f" at {record.url}" if record else ""
        who = f" (pid {record.pid})" if record else ""
        super().__init__(f"Roundhouse already runs for {home.root}{where}{who}")
        self.record = record


def write(home: Home, record: ServiceRecord) -> None:
    """Whole or not at all."""
    partial = home.service_file.with_suffix(".part")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    partial.replace(home.service_file)


def read(home: Home) -> ServiceRecord | None:
    """What was written last, by a supervisor that may be gone."""
    try:
        return msgspec.json.decode(home.service_file.read_bytes(), type=ServiceRecord)
    except (OSError, msgspec.DecodeError):
        return None


def running(home: Home) -> ServiceRecord | None:
    """The record of a supervisor that is alive."""
    record = read(home)
    return record if record and alive(record.supervisor) else None


def processes(home: Home, also_below: int | None = None) -> frozenset[ProcessId]:
    """Every living process of this installation, by its tag or because it is on record. See ``family``."""
    record = read(home)
    parts = record.parts if record else ()
    noted = (ProcessId(part.pid, part.start_ticks) for part in parts if part.pid and part.start_ticks)
    return family(home.instance, frozenset(noted), also_below)


def remove(home: Home) -> None:
    home.service_file.unlink(missing_ok=True)


def lock(home: Home) -> int:
    """Take the installation for this process, for as long as the returned descriptor is open. Raises AlreadyRunning."""
    descriptor = os.open(_lock_file(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + DYING_S
    while not _try_lock(descriptor):
        # A killed holder counts as dead when its first thread is; the lock goes only with its last.
        if _holder(descriptor) is not None or time.monotonic() > deadline:
            os.close(descriptor)
            raise AlreadyRunning(home, running(home))
        time.sleep(0.01)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def holder(home: Home) -> ProcessId | None:
    """The supervisor that holds the installation, even before or after it has a record."""
    try:
        descriptor = os.open(_lock_file(home), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(descriptor) else _holder(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> ProcessId | None:
    pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return identify(int(pid)) if pid.isdigit() else None


def _lock_file(home: Home) -> Path:
    return home.run / "supervisor.lock"
