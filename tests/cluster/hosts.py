"""Hosts of a cluster for tests: network namespaces on one bridge, each with an address and folders of its own.

They share this machine's processes, disk and clock; only their networks are apart. The test itself reaches each of them
by its address. Needs the rights to make network namespaces (root has them); where the kernel refuses, it says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute, NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

ROOT = Path(__file__).resolve().parents[2]
NETNS = Path("/var/run/netns")
CLONE_NEWNET = 0x40000000
MOST_HOSTS = 100  # names of links have at most 15 characters
# ``rh``, the process that made it, and a draw: what a killed run has left can be told from what is in use.
OURS = re.compile(r"rh(\d+)-[0-9a-f]{2}[bv]?\d*")
REFUSED = (
    "the kernel does not let this process make network namespaces ({}). The tests under tests/cluster need them: run "
    "as root; in a container: --cap-add NET_ADMIN --cap-add SYS_ADMIN --security-opt apparmor=unconfined"
)


class Refused(AssertionError):
    """No hosts can be made here; the message says what is lacking."""


class Host:
    """A machine as far as its network goes. ``folder``: its own, with ``home`` (of Roundhouse) and ``user`` in it."""

    def __init__(self, name: str, space: str, outer: str, address: str, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder
        self._space, self._outer = space, outer
        self.home, self.user = folder / "home", folder / "user"
        self.user.mkdir(parents=True)

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Nothing of Roundhouse's or Ray's from outside."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ROUNDHOUSE_", "RAY_"))}
        own = {"HOME": str(self.user), "ROUNDHOUSE_HOME": str(self.home), "ROUNDHOUSE_NODE": self.name}
        return {**kept, "PYTHONPATH": str(ROOT), **own, **(more or {})}

    def start(self, *words: str, more: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """A process on this host; ended with it."""
        given = {"cwd": self.folder, "text": True, "start_new_session": True, **options}
        with self._inside():
            return subprocess.Popen(words, env=self.environ(more), **given)

    def run(
        self, *words: str, timeout_s: float = 60, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Raises subprocess.TimeoutExpired; what it started is killed with the host."""
        process = self.start(*words, more=more, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def python(
        self, *words: str, timeout_s: float = 60, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, *words, timeout_s=timeout_s, more=more)

    def cut(self) -> None:
        """Nothing gets to it or away from it any more; nothing is told of it."""
        self._link("down")

    def mend(self) -> None:
        self._link("up")

    def _link(self, state: str) -> None:
        with IPRoute() as ip:
            ip.link("set", index=_index(ip, self._outer), state=state)

    def processes(self) -> dict[int, str]:
        """Everything that runs in its network, whoever started it: pid -> command line."""
        space = (NETNS / self._space).stat().st_ino
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.stat(entry / "ns" / "net").st_ino == space:
                        found[int(entry.name)] = (
                            (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        )
        return found

    def pids(self, pattern: str) -> list[int]:
        """Of processes whose command line holds this regular expression."""
        return sorted(pid for pid, line in self.processes().items() if re.search(pattern, line))

    def kill(self, pattern: str = "", signum: signal.Signals = signal.SIGKILL) -> int:
        """Those whose command line holds the pattern: all of them when there is none, as when power fails."""
        pids = self.pids(pattern)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        return len(pids)

    def crash(self) -> None:
        """Power fails: it is off the network at once, and nothing of it runs any more."""
        self.cut()
        self.end()

    def end(self) -> None:
        """Until nothing is left in it: what dies may just have started something else."""
        until(lambda: self.kill() == 0 or None, 20, every_s=0.02)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """What this thread starts is on this host; other threads stay where they are. No code runs after a fork."""
        here, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", NETNS / self._space))
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(here)
        finally:
            os.close(here)
            os.close(there)


def _enter(space: int) -> None:
    """Of this thread alone (setns(2))."""
    if ctypes.CDLL(None, use_errno=True).setns(space, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


class Network:
    """Hosts that reach each other, and this process, on a bridge. ``with Network() as net: a = net.host("a")``."""

    def __init__(self) -> None:
        self._mark = f"rh{os.getpid()}-{secrets.token_hex(1)}"
        self._bridge = f"{self._mark}b"
        self._folder = Path(tempfile.mkdtemp(prefix="rh-"))
        self._hosts: list[Host] = []
        self._spaces: list[str] = []
        self._prefix = ""

    def __enter__(self) -> Network:
        remove_leftovers()
        try:
            with IPRoute() as ip:
                self._prefix = _free_prefix(ip)
                ip.link("add", ifname=self._bridge, kind="bridge")
                index = _index(ip, self._bridge)
                ip.addr("add", index=index, address=f"{self._prefix}.254", prefixlen=24)
                ip.link("set", index=index, state="up")
        except (NetlinkError, OSError) as problem:
            self._remove()
            raise _refused(problem) from problem
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def host(self, name: str) -> Host:
        """Raises Refused."""
        number = len(self._hosts) + 1
        assert number < MOST_HOSTS
        space, outer = f"{self._mark}{number}", f"{self._mark}v{number}"
        address = f"{self._prefix}.{number}"
        try:
            netns.create(space)
            self._spaces.append(space)
            with IPRoute() as ip, NetNS(space) as inside:
                ip.link("add", ifname=outer, kind="veth", peer={"ifname": "eth0", "net_ns_fd": space})
                ip.link("set", index=_index(ip, outer), master=_index(ip, self._bridge), state="up")
                inner = _index(inside, "eth0")
                inside.addr("add", index=inner, address=address, prefixlen=24)
                for index in (inner, _index(inside, "lo")):
                    inside.link("set", index=index, state="up")
        except (NetlinkError, OSError) as problem:
            raise _refused(problem) from problem
        host = Host(name, space, outer, address, self._folder / name)
        self._hosts.append(host)
        return host

    def _remove(self) -> None:
        for host in self._hosts:
            host.end()
        for space in self._spaces:
            netns.remove(space)
        # By name: what is in a namespace that something still holds for a moment would go only with that.
        outer = (f"{self._mark}v{number}" for number in range(1, MOST_HOSTS))
        with IPRoute() as ip:
            ours = {self._bridge, *outer}
            for link in ip.get_links():
                if link.get_attr("IFLA_IFNAME") in ours:
                    with contextlib.suppress(NetlinkError):
                        ip.link("del", index=link["index"])
        shutil.rmtree(self._folder, ignore_errors=True)


def remove_leftovers() -> None:
    """Bridges and namespaces of runs that were killed; nothing of a run that lives."""
    for space in netns.listnetns():
        if _is_left(space):
            with contextlib.suppress(OSError):
                netns.remove(space)
    with IPRoute() as ip:
        for link in ip.get_links():
            if _is_left(link.get_attr("IFLA_IFNAME") or ""):
                with contextlib.suppress(NetlinkError):
                    ip.link("del", index=link["index"])


def _is_left(name: str) -> bool:
    found = OURS.fullmatch(name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


def _free_prefix(ip: IPRoute) -> str:
    """Of a /24 network that this machine has no way to yet."""
    known = {str(route.get_attr("RTA_DST") or "").rpartition(".")[0] for route in ip.get_routes(family=2)}
    while True:
        prefix = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}"
        if prefix not in known:
            return prefix


def _index(ip: IPRoute | NetNS, name: str) -> int:
    (index,) = ip.link_lookup(ifname=name)
    return int(index)


def _refused(problem: Exception) -> Exception:
    code = getattr(problem, "code", None) or getattr(problem, "errno", None)
    if code in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS):
        return Refused(REFUSED.format(os.strerror(code)))
    return problem


def until(condition: Callable[[], Any], timeout_s: float, every_s: float = 0.1, what: str = "it is so") -> Any:
    """Poll the real world until something is true; what it was."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(every_s)
