"""``python -m gateway.service.member``: keeps this machine's Ray node in the cluster that was joined.

Ray's node outlives a link that is cut for a while, but not its head: one that belongs to an earlier head is never
taken over by the next. So the head is asked each second which Ray it runs, and the node is replaced when that is
another one. Engines and launcher are no processes of Ray's, and notice nothing of it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.service import ray_head
from gateway.service.door.client import DoorClient, DoorError
from gateway.service.door.words import Hello, Welcome, own_versions
from gateway.service.processes import ProcessId, everyone
from gateway.service.sweep import sweep
from models import cluster, secret
from models.cluster import Cluster
from models.fleet import node_file
from models.home import Home, node_name
from models.runtimes import proc

ASK_EVERY_S = 1.0
ASK_TIMEOUT_S = 3.0
# An end soon after a start is likely to be followed by another.
FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_AFTER_S = 1.0, 8.0, 30.0
LEAVE_GRACE_S = 3.0
STOPPED_S = 6.0
PR_SET_PDEATHSIG = 1

log = logging.getLogger("roundhouse.member")


class RayNode(Protocol):
    """Ray's node on this machine, when it has been started."""

    def start(self) -> None: ...

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""

    def stopped(self) -> bool:
        """One of its processes does nothing until it is told to go on (SIGSTOP, a debugger)."""

    def end(self, grace_s: float = 0.0) -> None:
        """Returns when nothing of it is left."""


@dataclass(slots=True)
class Member:
    """What keeps the node joined, step by step. Times are of one clock, in seconds."""

    ask: Callable[[], Welcome]  # raises DoorError
    node: RayNode
    _session: str | None = field(default=None, init=False)  # of the head that the node was started for
    _began_s: float = field(default=0.0, init=False)
    _wait_s: float = field(default=0.0, init=False)
    _not_before_s: float = field(default=0.0, init=False)
    _said: str = field(default="", init=False)
    _stopped_since_s: float | None = field(default=None, init=False)

    def step(self, now_s: float) -> None:
        """Raises DoorError when another machine has this one's name, or its version is no longer that of the head."""
        self._see_whether_it_runs(now_s)
        self._see_whether_it_is_stopped(now_s)
        try:
            session = self.ask().session
        except DoorError as problem:
            self._say(f"{problem}; {problem.cure}")
            if problem.code in ("name_taken", "version_mismatch"):
                self._end_node()
                raise
            return  # what runs goes on: the head may only be out of reach
        if session is None:
            self._say("Ray does not run on the head")
        elif session != self._session and now_s >= self._not_before_s:
            if self._session is not None:
                log.info("the head runs another Ray: this machine joins that one")
                self._end_node()
            self.node.start()
            self._session, self._began_s = session, now_s
            self._say("joined")

    def _see_whether_it_runs(self, now_s: float) -> None:
        status = None if self._session is None else self.node.ended()
        if status is None:
            return
        lived_s = now_s - self._began_s
        self._wait_s = (
            FIRST_WAIT_S if lived_s >= HEALTHY_AFTER_S else min(LONGEST_WAIT_S, max(FIRST_WAIT_S, self._wait_s * 2))
        )
        self._not_before_s = now_s + self._wait_s
        log.warning(
            "Ray's node ended with %d after %.0f s; another one starts in %.0f s", status, lived_s, self._wait_s
        )
        self._end_node()

    def _see_whether_it_is_stopped(self, now_s: float) -> None:
        """The head gives such a node up, which then never notices."""
        if self._session is None or not self.node.stopped():
            self._stopped_since_s = None
        elif self._stopped_since_s is None:
            self._stopped_since_s = now_s
        elif now_s - self._stopped_since_s >= STOPPED_S:
            log.warning("Ray's node has been stopped for %.0f s; another one takes its place", STOPPED_S)
            self._stopped_since_s = None
            self._end_node()

    def _end_node(self) -> None:
        self.node.end()
        self._session = None

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.info(text)


class LocalRayNode:
    """As child of this process, in its session; ended with everything else in it."""

    def __init__(self, home: Home, joined: Cluster, host: str) -> None:
        self._home = home
        self._joined = joined
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        self._libc = ctypes.CDLL(None)

    def start(self) -> None:
        ray_head.prepare(self._home)
        env = {**os.environ, **ray_head.environment(self._home, self._joined)}
        command = ray_head.node_command(self._home, self._joined, self._host)
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, preexec_fn=self._die_with_me)

    def ended(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def stopped(self) -> bool:
        found = (proc.stat(process.pid) for process in _rest_of_session())
        return any(each is not None and each.state in "Tt" for each in found)

    def end(self, grace_s: float = 0.0) -> None:
        process, self._process = self._process, None
        if process is not None and grace_s:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        sweep(_rest_of_session, grace_s=0.0)
        if process is not None:
            process.wait()
        ray_head.started_file(self._home).unlink(missing_ok=True)

    def _die_with_me(self) -> None:
        self._libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)


def _rest_of_session() -> frozenset[ProcessId]:
    """Nothing but this process and what it starts is in a session that it leads."""
    me = os.getpid()
    if os.getsid(0) != me:
        return frozenset()
    return frozenset(process.id for process in everyone() if process.session == me and process.pid != me)


def main() -> int:
    """Until SIGTERM or SIGINT. Exit 1 when another machine took this one's name, 2 when no cluster was joined."""
    parser = argparse.ArgumentParser(prog="python -m gateway.service.member", description=__doc__)
    parser.add_argument("--home", help="state folder (default: ROUNDHOUSE_HOME or .roundhouse)")
    home = Home.find(parser.parse_args().home)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        joined = cluster.read(home)
        key = secret.key(secret.read(home.cluster_secret), "door")
    except (cluster.ClusterFileError, secret.NoSecret) as problem:
        sys.stderr.write(f"roundhouse: {problem}\n")
        return 2
    if joined is None or joined.leads:
        sys.stderr.write("roundhouse: this machine has joined no cluster; it does by: roundhouse join HEAD\n")
        return 2
    return _keep(home, joined, key)


def _keep(home: Home, joined: Cluster, key: str) -> int:
    here = node_file.read(home.node_file, otherwise=node_name())
    door = DoorClient(joined.head, joined.port, key, ASK_TIMEOUT_S)
    hello = Hello(name=here.name, identity=joined.identity, address=here.address, versions=own_versions())
    node = LocalRayNode(home, joined, here.address)
    member = Member(ask=lambda: door.hello(hello), node=node)
    stopping = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(PermissionError):  # it leads a process group: whoever started it has to clear up
            os.setsid()
    try:
        while not stopping.is_set():
            member.step(time.monotonic())
            stopping.wait(ASK_EVERY_S)
    except DoorError:
        return 1
    finally:
        # Asked to end, it says goodbye to the head, which then need not wait for it.
        node.end(LEAVE_GRACE_S)
        with contextlib.suppress(DoorError):
            door.leave(hello)
    return 0


if __name__ == "__main__":
    sys.exit(main())
