"""``python -m gateway.server``: the gateway's worker, or with ``--workers`` the master of several."""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import flags, lean
from gateway.listening import listen
from gateway.workers import address, write_ready

if TYPE_CHECKING:
    from gateway.plane.plane import Plane
    from gateway.siblings import Siblings
    from gateway.tls import TlsFiles

MOST_WORKERS = 64
# What starts in a worker is there to stay; later garbage is young, and is looked for less often than usual.
COLLECT_EVERY = 20_000


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m gateway.server", description="The Roundhouse gateway.")
    parser.add_argument("--home", type=Path, help="state folder (default: $ROUNDHOUSE_HOME, else .roundhouse)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0 lets the system choose (default: %(default)s)")
    parser.add_argument("--admin", type=address, metavar="HOST:PORT", help="the admin API is there, and nowhere else")
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--ready-file", type=Path, help="where to write the port once requests are answered")
    flags.add_limits(parser)
    seat = flags.add_worker(parser)
    seat.add_argument("--also-fd", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    flags.check_worker(parser, given)
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 ended as asked, 1 cannot listen, 2 wrong arguments or settings."""
    words = sys.argv[1:] if argv is None else list(argv)
    given = arguments(words)
    if given.workers > 1 and given.fd is None:
        return _become_master(given, words)
    if given.fd is not None:
        return _run(given, [socket.socket(fileno=each) for each in (given.fd, given.also_fd) if each is not None])
    listeners = []
    for host, port in [(given.host, given.port)] if given.admin is None else [(given.host, given.port), given.admin]:
        try:
            listeners.append(listen(host, port))
        except OSError as refused:
            sys.stderr.write(f"cannot listen on {host} port {port}: {refused.strerror or refused}\n")
            return 1
    return _run(given, listeners)


def _become_master(given: argparse.Namespace, words: Sequence[str]) -> int:
    """In this process's place: what was loaded to read the arguments is of no use to a master."""
    from models.home import Home

    seat = ["--workers", given.workers, "--host", given.host, "--port", given.port]
    seat += ["--peers", Home.find(given.home).workers]
    if given.ready_file is not None:
        seat += ["--ready-file", given.ready_file.absolute()]
    if given.admin is not None:
        seat += ["--also", ":".join(map(str, given.admin))]
    command = [sys.executable, "-m", "gateway.workers", *map(str, seat), "gateway.server", *words]
    sys.stderr.flush()
    os.execv(sys.executable, command)


def _run(given: argparse.Namespace, listeners: list[socket.socket]) -> int:
    """``listeners``: the second one, where there is one, is for the admin API."""
    gc.disable()  # nothing of what loads now is garbage
    with lean.without(*lean.UNUSED, *flags.unseen(given)):
        import structlog

        from gateway import logs
        from gateway.admin_port import AdminPort
        from gateway.plane.server import make_server
        from gateway.seat import Seat
        from gateway.siblings import Siblings
        from gateway.tls import Tls, TlsError
        from models.store.errors import StoreSettingError

        logs.configure(as_json={"auto": None, "json": True, "console": False}[given.log_format], level=given.log_level)
        host, port = listeners[0].getsockname()[:2]
        log = structlog.get_logger(__name__)
        siblings = Siblings(given.worker, given.workers, given.peers)
        try:
            tls = Tls(_tls_files(given)) if given.tls_cert is not None else None
            plane = build(given, siblings)
            if given.admin is not None:
                plane.control = AdminPort(plane.control, listeners[1].getsockname()[1])
        except (StoreSettingError, TlsError) as wrong:
            sys.stderr.write(f"{wrong}\n")
            return 2
    seat = Seat(given.line, siblings, tls)

    def on_listening() -> None:
        log.info("listening", host=host, port=port, pid=os.getpid(), worker=given.worker)
        seat.take()
        if given.fd is None and given.ready_file is not None:
            write_ready(given.ready_file, port)

    def on_leaving() -> None:
        plane.leaving.now = True

    server = make_server(plane, given.drain_timeout_s, on_listening, on_leaving, ssl=tls.context if tls else None)
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 20)
    gc.enable()
    server.run(sockets=listeners)
    log.info("ended", worker=given.worker)
    return 0


def build(given: argparse.Namespace, siblings: Siblings) -> Plane:
    """Raises StoreSettingError."""
    from gateway.app import Deps, create_app
    from models.home import Home
    from models.store.client import connect, connect_async, keys_from, redis_url

    home = Home.find(given.home)
    url = redis_url(home)
    deps = Deps(
        redis=connect_async(url),
        blocking_redis=connect(url),
        keys=keys_from(),
        limits=flags.limits_of(given),
        caps=flags.caps_of(given),
        home=home,
        siblings=siblings,
        access_log=given.access_log,
    )
    return create_app(deps)


def _tls_files(given: argparse.Namespace) -> TlsFiles:
    from gateway.tls import TlsFiles

    return TlsFiles(given.tls_cert, given.tls_key)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


def _workers(text: str) -> int:
    workers = flags.count(text)
    if workers > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"at most {MOST_WORKERS}")
    return workers


if __name__ == "__main__":
    sys.exit(main())
