"""``python -m gateway.standalone``: a worker of the gateway on its own, or with ``--workers`` the master of several."""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway import flags, lean
from gateway.listening import listen
from gateway.standalone.loopback import is_loopback

MOST_WORKERS = 64
# What starts in a worker is there to stay; later garbage is young, and is looked for less often than usual.
COLLECT_EVERY = 20_000


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m gateway.standalone", description="The gateway without the rest.")
    parser.add_argument("--routes", type=Path, required=True, metavar="FILE", help="models and their upstreams")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="who may call; left out: everybody, on loopback only")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_from_to(0, 65_535), default=8000, help="0: a free one (default: %(default)s)")
    parser.add_argument("--workers", type=_from_to(1, MOST_WORKERS), default=1, metavar="N", help="processes")
    parser.add_argument("--ready-file", type=Path, help="where to write the port once requests are answered")
    flags.add_worker(parser)
    given = parser.parse_args(argv)
    flags.check_worker(parser, given)
    if given.keys is None and not is_loopback(given.host):
        parser.error(f"without --keys everybody who reaches {given.host} could call: name one, or a loopback --host")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 ended as asked, 1 cannot listen, 2 wrong arguments or files."""
    words = sys.argv[1:] if argv is None else list(argv)
    given = arguments(words)
    if given.workers > 1 and given.fd is None:
        return _become_master(given, words)
    try:
        listener = listen(given.host, given.port) if given.fd is None else socket.socket(fileno=given.fd)
    except OSError as refused:
        sys.stderr.write(f"cannot listen on {given.host} port {given.port}: {refused.strerror or refused}\n")
        return 1
    with listener:
        return _run(given, listener)


def _become_master(given: argparse.Namespace, words: Sequence[str]) -> int:
    """In this process's place: what was loaded to read the arguments is of no use to a master."""
    seat = ["--workers", given.workers, "--host", given.host, "--port", given.port]
    if given.ready_file is not None:
        seat += ["--ready-file", given.ready_file.absolute()]
    command = [sys.executable, "-m", "gateway.workers", *map(str, seat), "gateway.standalone", *words]
    sys.stderr.flush()
    os.execv(sys.executable, command)


def _run(given: argparse.Namespace, listener: socket.socket) -> int:
    gc.disable()  # nothing of what loads now is garbage
    with lean.without(*lean.UNUSED, *flags.unseen(given)):
        from gateway import logs
        from gateway.standalone.worker import Worker
        from gateway.tls import TlsError
        from models.catalog.errors import ConfigError

        as_json = {"auto": None, "json": True, "console": False}[given.log_format]
        logs.configure(as_json=as_json, level=given.log_level)
        try:
            worker = Worker(given)
        except (ConfigError, TlsError) as wrong:
            sys.stderr.write(f"{wrong}\n")
            return 2
    gc.set_threshold(COLLECT_EVERY, 20, 20)
    gc.enable()
    worker.serve(listener)
    return 0


def _from_to(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main())
