"""A real PostgreSQL for tests: the binaries of the package pgserver, else those on the path; on a port of loopback.

The server refuses to run as root: there it is somebody without rights, who gets a copy of the binaries, as the folder
of a virtual environment may be closed to others.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.models.store.servers import free_port

NOBODY = 65534
STARTS_WITHIN_S = 60.0


class PostgresServer:
    """``url``: of an empty database in it, as an operator would write it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rh-pg-"))
        self._folder.chmod(0o755)
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._binaries = _binaries(self._folder, copied=bool(self._as))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._data = self._folder / "data"
        self._data.mkdir(mode=0o700)
        if self._as:
            os.chown(self._data, NOBODY, NOBODY)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--locale=C", "-U", "roundhouse", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://roundhouse:a-secret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = ("-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F", "-c", "shared_buffers=16MB")
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options], stdout=log, stderr=log, cwd="/", **self._as
            )
        self._until_it_answers()

    def kill(self) -> None:
        """As a crash: nothing is closed."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)

    def pause(self) -> None:
        """It takes connections and says nothing any more, and neither do its children."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal_all(self, number: int) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):  # a child that was on its way out
                os.kill(pid, number)

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / command, "-D", self._data, *arguments], cwd="/", capture_output=True, **self._as
        )
        assert done.returncode == 0, done.stderr.decode()

    def _until_it_answers(self) -> None:
        import psycopg

        assert self._process is not None
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError((self._folder / "log").read_text())


def _binaries(folder: Path, *, copied: bool) -> Path:
    package = importlib.util.find_spec("pgserver")
    if package is not None and package.origin is not None:
        packages = Path(package.origin).parents[1]
        if copied:
            packages = _copied(packages, folder / "packages")
        return packages / "pgserver" / "pginstall" / "bin"
    found = shutil.which("initdb")
    assert found, "there is no PostgreSQL: make test installs one with the package pgserver"
    return Path(found).resolve().parent


def _copied(packages: Path, to: Path) -> Path:
    """Where they lie to each other as before: programs look for their libraries beside them."""
    for part in ("pgserver.libs", "pgserver/pginstall/lib", "pgserver/pginstall/share"):
        shutil.copytree(packages / part, to / part)
    (to / "pgserver/pginstall/bin").mkdir()
    for name in ("postgres", "initdb"):
        shutil.copy(packages / "pgserver/pginstall/bin" / name, to / "pgserver/pginstall/bin")
    for path in (to, *to.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return to
