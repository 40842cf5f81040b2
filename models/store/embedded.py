"""The embedded Redis: on a unix socket only the owner can open, its data on disk, at most one per data folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from models.home import LONGEST_SOCKET_PATH, Home
from models.store import exposed
from models.store.binary import RedisServer, find_redis_server
from models.store.client import unix_url
from models.store.errors import StoreError, StoreInUse, StoreStartFailed

__all__ = ["EmbeddedRedis", "find_redis_server", "lock_data", "redis_command"]

LOCK_FILE = "lock"
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.005


def redis_command(home: Home, server: RedisServer | None = None) -> list[str]:
    """How the server is run in the foreground. Raises NoRedisServer; StoreError when it cannot work on this folder."""
    server = server or find_redis_server()
    _check_socket_path(home)
    _check_data_version(home, server)
    options = {
        **exposed.options(home),
        "unixsocket": str(home.redis_socket),
        "unixsocketperm": "700",
        "dir": str(home.redis_dir),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "protected-mode": "yes",
        "daemonize": "no",
        "set-proc-title": "no",  # it would write over its environment, by which it is found
        "loglevel": "warning",
        "maxmemory-policy": "noeviction",
    }
    words = (word for name, value in options.items() for word in (f"--{name}", value))
    return [str(server), *map(str, exposed.config_file(home)), *words]


def lock_data(home: Home) -> int:
    """Take the data folder for one server; the lock lasts as long as the returned descriptor is open in any process.

    The server inherits it: a crash of whoever started it does not free the folder while the server still writes.
    Raises StoreInUse.
    """
    home.redis_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home.redis_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreInUse(
            f"a Redis server (pid {holder}) already runs on {home.redis_dir}; "
            "stop it with `roundhouse down`, or choose another state folder with ROUNDHOUSE_HOME"
        ) from None
    return descriptor


def write_pid(lock: int, pid: int) -> None:
    """Names the holder in the lock file, for the message of the next one who tries."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{pid}\n".encode(), 0)


def remove_stale_socket(home: Home) -> None:
    """Only for the holder of the lock: whatever socket lies there belongs to a server that is gone."""
    home.redis_socket.unlink(missing_ok=True)


class EmbeddedRedis:
    """A server as a child of this process, for tests and tools; ``with EmbeddedRedis() as store: connect(store.url)``.

    Without a home it makes a temporary one and removes it at the end.
    """

    def __init__(self, home: Home | None = None, start_timeout_s: float = 20.0) -> None:
        self._own_root = Path(tempfile.mkdtemp(prefix="rh-")) if home is None else None
        self.home = home if home is not None else Home.find(self._own_root)
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return unix_url(self.home.redis_socket, exposed.password(self.home))

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def log_path(self) -> Path:
        return self.home.logs / "redis.log"

    def start(self) -> None:
        """Returns once it answers. Raises StoreInUse, NoRedisServer or StoreStartFailed."""
        self.home.create()
        lock = lock_data(self.home)
        try:
            remove_stale_socket(self.home)
            exposed.write_config(self.home)
            command = redis_command(self.home)
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,), start_new_session=True
                )
            write_pid(lock, self._process.pid)
        finally:
            os.close(lock)
        self._wait_ready(self._process)

    def stop(self) -> None:
        """Ends it so that everything it acknowledged is on disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> EmbeddedRedis:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.stop()
        if self._own_root is not None:
            for folder in (self._own_root, self.home.run):
                shutil.rmtree(folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        password = exposed.password(self.home)
        while not _answers(self.home.redis_socket, password):
            if process.poll() is not None or time.monotonic() > deadline:
                ended = f"ended with code {process.returncode}" if process.returncode is not None else "does not answer"
                self.kill()
                raise StoreStartFailed(f"the Redis server {ended}: {_last_lines(self.log_path)}")
            time.sleep(_POLL_S)


def _answers(path: Path, password: str | None) -> bool:
    """Asked on a bare socket: a client would retry, and would count loading the data as an error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            probe.sendall(exposed.ping(password))
            with probe.makefile("rb") as lines:
                return [lines.readline() for _ in exposed.ping(password).splitlines()][-1] == exposed.PONG
        except OSError:
            return False


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return " | ".join(lines[-3:]) or "its log is empty"


def _check_socket_path(home: Home) -> None:
    # Redis would cut it off without a word, and listen where nobody looks.
    length = len(os.fsencode(home.redis_socket))
    if length > LONGEST_SOCKET_PATH:
        raise StoreError(
            f"the path of the socket {home.redis_socket} is {length} bytes long, but at most {LONGEST_SOCKET_PATH} are "
            "possible; choose a shorter ROUNDHOUSE_HOME or TMPDIR"
        )


def _check_data_version(home: Home, server: RedisServer) -> None:
    # Servers before 7.0 do not know this folder: they would start empty, and nobody would be told.
    if server.version < (7, 0, 0) and (home.redis_dir / "appendonlydir").is_dir():
        raise StoreError(
            f"the data in {home.redis_dir} was written by Redis 7 or later, but only {server.path} "
            f"({server.version_text}) was found; put the newer server on the PATH again"
        )
