"""``python -m gateway.server``: one gateway worker."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.http_server import listen, make_server

if TYPE_CHECKING:
    from gateway.front import Front

DRAIN_TIMEOUT_S = 30.0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    from gateway.inference import Limits

    usual = Limits()
    parser = argparse.ArgumentParser("python -m gateway.server", description="One worker of the Roundhouse gateway.")
    parser.add_argument("--home", type=Path, help="state folder (default: $ROUNDHOUSE_HOME, else .roundhouse)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0 lets the system choose (default: %(default)s)")
    parser.add_argument("--ready-file", type=Path, help="where to write the port once requests are answered")
    parser.add_argument("--hold-timeout", type=_seconds, default=usual.hold_timeout_s, metavar="S",
                        help="how long a request waits for its model to start (default: %(default)s)")  # fmt: skip
    parser.add_argument("--hold-limit", type=_count, default=usual.hold_limit, metavar="N",
                        help="how many requests may wait per model (default: %(default)s)")  # fmt: skip
    parser.add_argument("--max-body", type=_count, default=usual.max_body_bytes, metavar="BYTES",
                        help="largest request body (default: %(default)s)")  # fmt: skip
    parser.add_argument("--drain-timeout", type=_seconds, default=DRAIN_TIMEOUT_S, metavar="S",
                        help="how long open answers may go on after SIGTERM (default: %(default)s)")  # fmt: skip
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--log-format", choices=("auto", "json", "console"), default="auto")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 ended as asked, 1 cannot listen, 2 wrong arguments or settings."""
    given = arguments(argv)
    try:
        listener = listen(given.host, given.port)
    except OSError as refused:
        sys.stderr.write(f"cannot listen on {given.host} port {given.port}: {refused.strerror or refused}\n")
        return 1
    with listener:
        return _run(given, listener)


def _run(given: argparse.Namespace, listener: socket.socket) -> int:
    import structlog

    from gateway import logs
    from models.store.errors import StoreSettingError

    logs.configure(as_json={"auto": None, "json": True, "console": False}[given.log_format], level=given.log_level)
    host, port = listener.getsockname()[:2]
    log = structlog.get_logger(__name__)
    try:
        app = build(given)
    except StoreSettingError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2

    def on_listening() -> None:
        log.info("listening", host=host, port=port, pid=os.getpid())
        if given.ready_file is not None:
            write_ready(given.ready_file, port)

    def on_leaving() -> None:
        app.leaving.now = True

    make_server(app, given.drain_timeout, on_listening, on_leaving).run(sockets=[listener])
    log.info("ended")
    return 0


def build(given: argparse.Namespace) -> Front:
    """Raises StoreSettingError."""
    from gateway.app import Deps, create_app
    from gateway.inference import Limits
    from models.home import Home
    from models.store.client import connect, connect_async, keys_from, redis_url

    home = Home.find(given.home)
    url = redis_url(home)
    limits = Limits(max_body_bytes=given.max_body, hold_timeout_s=given.hold_timeout, hold_limit=given.hold_limit)
    deps = Deps(redis=connect_async(url), blocking_redis=connect(url), keys=keys_from(), limits=limits, home=home)
    return create_app(deps)


def write_ready(path: Path, port: int) -> None:
    """Whole or not at all: whoever waits for the file never reads half of it."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(f"{port}\n")
    partial.replace(path)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
