"""The launcher, one per node: has every runtime imported and warmed once, and an engine forked from that per order.

``python -m models.runtimes.launcher --socket PATH --scratch DIR [--runtimes vllm,torch] [--spares N] ...``

This process stays small. It owns the socket, the orders and the record of how engines ended; the warm process that is
forked from, the zygote, is its child and can be replaced while it goes on. Engines live under leases of their own and
go on when both end; spare children do not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from models.runtimes import wire
from models.runtimes.launcher.ageing import MIB, Bounds
from models.runtimes.launcher.children import Children
from models.runtimes.launcher.dispatch import Dispatch
from models.runtimes.launcher.generation import Generation
from models.runtimes.launcher.generations import Generations, Limits
from models.runtimes.launcher.peers import Ordered, Peer
from models.runtimes.launcher.recipe import Recipe, recipe_for
from models.runtimes.launcher.spares import Spare
from models.runtimes.launcher.warming import UNAVAILABLE
from models.runtimes.logs import log_to_stderr
from models.runtimes.protocol import LauncherStatus, Refusal
from models.runtimes.sockets import bind_private, remove

BACKLOG = 256
SETTLE_S = 1.0
PR_SET_CHILD_SUBREAPER = 36
VLLM_PATH_ENV = "ROUNDHOUSE_VLLM_PATH"

log = logging.getLogger("roundhouse.launcher")


class AlreadyRunning(Exception):
    """Another launcher holds the socket."""


class Launcher:
    """Accepts orders on one socket for as long as it is asked to, or, with a lease, for as long as anybody asks."""

    def __init__(
        self, socket_path: str, scratch: Path, recipe: Recipe, *, spares: int, limits: Limits, lease_s: float = 0.0
    ) -> None:
        """Binds the socket at once. Raises AlreadyRunning, OSError. ``lease_s`` 0: no lease."""
        self._socket_path = socket_path
        self._lease_s = lease_s
        self._lock = _lock(socket_path)
        self._listener = bind_private(socket_path)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._peers: set[Peer] = set()
        self._children = Children()
        self._dispatch = Dispatch(self._children, spares, self._why_not)
        self._generations = Generations(recipe, scratch, limits, self)
        self._quit: asyncio.Future[str]
        self._broken: str | None = None

    async def run(self) -> int:
        """Serve until SIGTERM, ``quit`` or the end of the lease; the engines go on. 1 when nothing can be warmed."""
        loop = asyncio.get_running_loop()
        self._quit = loop.create_future()
        self._heard_s = loop.time()
        # When a zygote is gone its engines become ours, so that their ends stay on record.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave, f"signal {number}")
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        loop.add_reader(self._listener, self._accept)
        self._generations.begin()
        self._mind_the_lease()
        log.info("listening on %s, warming", self._socket_path)
        why = await self._quit
        log.info("ending (%s); %d engines go on", why, len(self._children))
        self._dispatch.decline_all(f"the launcher ends ({why})")
        remove(self._socket_path)
        return 1 if self._broken else 0

    def _leave(self, why: str) -> None:
        if not self._quit.done():
            self._quit.set_result(why)

    def _mind_the_lease(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._heard_s + self._lease_s - loop.time()
        if not self._lease_s:
            return
        if left_s <= 0:
            self._leave(f"nobody asked for {self._lease_s:g} s")
        else:
            loop.call_later(left_s, self._mind_the_lease)

    def _reap(self) -> None:
        """Wait for whoever has ended: a zygote, or what zygotes that are gone have left."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if not self._generations.ended(pid, wait_status):
                    self._dispatch.ended(pid, wait_status)

    # Peers

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            peer = Peer(connection)
            self._peers.add(peer)
            asyncio.get_running_loop().add_reader(connection, self._read, peer)

    def _read(self, peer: Peer) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        try:
            line = peer.next_line()
            if line:
                peer.pending.clear()
                self._obey(wire.decode_launcher(line), peer)
            elif line is not None:
                self._drop(peer)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
        except (msgspec.DecodeError, ValueError) as problem:  # ValidationError is a DecodeError
            peer.say(Refusal(refused=f"not an order: {problem}"))
            self._drop(peer)

    def _obey(self, request: wire.LauncherRequest, peer: Peer) -> None:
        match request.op:
            case "ping":
                peer.say(self.status())
            case "quit":
                self._leave("it was told to")
            case "recycle":
                self._generations.recycle("it was asked for")
                peer.say(self.status())
            case "start" if request.order is None:
                peer.say(Refusal(refused="not an order: `order` is missing"))
                self._drop(peer)
            case "start":
                self._release(peer)
                self._dispatch.take(Ordered(request.order, peer, self._heard_s))

    def _release(self, peer: Peer) -> None:
        asyncio.get_running_loop().remove_reader(peer.connection)
        self._peers.discard(peer)

    def _drop(self, peer: Peer) -> None:
        self._release(peer)
        peer.connection.close()

    # What it has

    def status(self) -> LauncherStatus:
        current = self._generations.current
        age = current.age() if current is not None else None
        warm = current.warm if current is not None else None
        return LauncherStatus(
            pid=os.getpid(),
            ready=current is not None,
            runtimes=self._generations.states,
            started=self._dispatch.started,
            rss_bytes=age.rss_bytes if age else 0,
            warm_s=warm.warm_s if warm else 0.0,
            paths=warm.paths if warm else {},
            engines=len(self._children),
            spares=len(self._dispatch.spares),
            spare_bytes=self._dispatch.spares.private_bytes(),
            generation=current.number if current else 0,
            age_s=age.age_s if age else 0.0,
            forks=age.forks if age else 0,
            problem=self._generations.problem,
        )

    def _why_not(self, runtime: str) -> str | None:
        states = self._generations.states
        if runtime not in states:
            return f"this node's launcher has no runtime called {runtime!r}, only {', '.join(states)}"
        if states[runtime].startswith(UNAVAILABLE):
            return f"the runtime {runtime!r} is {states[runtime]}"
        return None

    # What its zygotes do (the Nursery of ``generations``)

    def warmed(self, generation: Generation) -> None:
        self._dispatch.use(generation)

    def forked(self, generation: Generation, pid: int, channel: socket.socket) -> None:
        self._dispatch.forked(Spare(pid, generation.number, channel))

    def not_forked(self, why: str) -> None:
        self._dispatch.not_forked(why)

    def child_ended(self, pid: int, wait_status: int) -> None:
        self._dispatch.ended(pid, wait_status)

    def lost(self, generation: Generation) -> None:
        if self._generations.current is None:
            self._dispatch.use(None)
        self._reap()
        # Later: what other zygotes say of children of theirs may be on its way.
        asyncio.get_running_loop().call_later(SETTLE_S, self._dispatch.vanished)

    def cannot_warm(self, why: str) -> None:
        self._dispatch.decline_all(why)

    def give_up(self, why: str) -> None:
        self._broken = why
        self._leave(why)


def _lock(socket_path: str) -> int:
    """Hold ``socket_path`` for as long as this process lives."""
    Path(socket_path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(socket_path + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        owner = os.pread(held, 20, 0).decode().strip()
        os.close(held)
        raise AlreadyRunning(f"a launcher (pid {owner}) listens on {socket_path} already") from problem
    os.ftruncate(held, 0)
    os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    return held


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.runtimes.launcher", description="Forks engines to order.")
    add = parser.add_argument
    add("--socket", required=True, metavar="PATH", help="unix socket to listen on")
    add("--scratch", required=True, type=Path, metavar="DIR", help="folder for caches and the warm model")
    names = "names, or package.module:factory (default: %(default)s)"
    add("--runtimes", default="vllm,torch", metavar="LIST", help=names)
    paths = ("auto", "fast", "plain")
    how = "how vLLM runs: fast (forked), plain (its own server), or auto: fast unless its probe fails"
    add("--vllm-path", choices=paths, default=os.environ.get(VLLM_PATH_ENV) or "auto", help=f"{how} (${VLLM_PATH_ENV})")
    add("--spares", type=int, default=2, metavar="N", help="children forked ahead (default: %(default)s)")
    add("--lease", type=float, default=0.0, metavar="SECONDS", help="end after so long without a line (0: never)")
    limit = "a runtime that needs longer to import or to warm is broken (default: %(default)s)"
    add("--warm-timeout", type=float, default=Limits().warm_timeout_s, metavar="SECONDS", help=limit)
    renewed = "renew the warm process (0: never; default: %(default)s)"
    usual = Bounds()
    add("--recycle-mib", type=int, default=usual.grown_bytes // MIB, metavar="MIB", help=f"growth to {renewed}")
    add("--recycle-forks", type=int, default=usual.forks, metavar="N", help=f"forks after which to {renewed}")
    add("--recycle-hours", type=float, default=usual.age_s / 3600, metavar="H", help=f"age at which to {renewed}")
    arguments = parser.parse_args()
    for name in ("spares", "lease", "recycle_mib", "recycle_forks", "recycle_hours"):
        if getattr(arguments, name) < 0:
            parser.error(f"--{name.replace('_', '-')} cannot be below 0")
    if arguments.vllm_path not in paths:  # argparse does not look at a default
        parser.error(f"{VLLM_PATH_ENV} is {arguments.vllm_path!r}: choose from {', '.join(paths)}")
    return arguments


def _made(arguments: argparse.Namespace) -> Launcher:
    bounds = Bounds(
        grown_bytes=arguments.recycle_mib * MIB, forks=arguments.recycle_forks, age_s=arguments.recycle_hours * 3600
    )
    names = tuple(name for name in arguments.runtimes.split(",") if name)
    return Launcher(
        arguments.socket,
        arguments.scratch.resolve(),
        recipe_for(names, arguments.vllm_path),
        spares=arguments.spares,
        limits=Limits(arguments.warm_timeout, bounds),
        lease_s=arguments.lease,
    )


def main() -> None:
    arguments = _arguments()
    log_to_stderr("%(asctime)s %(name)s: %(message)s")
    try:
        arguments.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        code = asyncio.run(_made(arguments).run())
    except (AlreadyRunning, OSError) as problem:
        log.error("%s", problem)
        code = 1
    sys.stderr.flush()
    os._exit(code)  # the kernel hangs up on the zygote and on the spares


if __name__ == "__main__":
    main()
