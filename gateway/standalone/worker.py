"""One worker as it runs: from its arguments to its end."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket

import structlog

from gateway.plane.server import Server
from gateway.seat import Seat
from gateway.siblings import Siblings
from gateway.standalone.app import Deps, create
from gateway.tls import Tls, TlsFiles
from gateway.workers import write_ready

log = structlog.get_logger(__name__)


class Worker:
    """``given``: what ``gateway.standalone.__main__`` reads. Raises ConfigError, TlsError."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        siblings = Siblings(given.worker, given.workers, given.peers)
        self._tls = Tls(TlsFiles(given.tls_cert, given.tls_key)) if given.tls_cert is not None else None
        deps = Deps(routes=given.routes, keys=given.keys, siblings=siblings, access_log=given.access_log)
        self._plane, self._reload = create(deps)
        self._seat = Seat(given.line, siblings, self._tls)

    def serve(self, listener: socket.socket) -> None:
        """Until SIGTERM or SIGINT, and what was open then is over."""
        server = Server(
            self._plane,
            self._plane.limits.drain_timeout_s,
            lambda: self._on_listening(listener),
            self._on_leaving,
            self._tls.context if self._tls is not None else None,
        )
        server.run(sockets=[listener])
        log.info("ended", worker=self._given.worker)

    def _on_listening(self, listener: socket.socket) -> None:
        given = self._given
        host, port = listener.getsockname()[:2]
        log.info("listening", host=host, port=port, pid=os.getpid(), worker=given.worker, keys=given.keys is not None)
        self._seat.take()
        # A certificate is looked at every second anyway; the files of routes and keys are what SIGHUP is sent for.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload.hurry)
        if given.ready_file is not None and given.fd is None:
            write_ready(given.ready_file, port)

    def _on_leaving(self) -> None:
        self._plane.leaving.now = True
