"""The hosts themselves: apart and together, cut off and mended, killed alone, and nothing of them left."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyroute2 import IPRoute, netns

from tests.cluster import hosts
from tests.cluster.hosts import Host, Network, until

pytestmark = pytest.mark.chaos

SERVE = """
import socket, sys
with socket.create_server((sys.argv[1], 7000)) as server:
    print("listens", flush=True)
    while True:
        server.accept()[0].close()
"""
ASK = "import socket, sys; socket.create_connection((sys.argv[1], 7000), timeout=1); print('answered')"


def serve(host: Host, address: str) -> subprocess.Popen[str]:
    process = host.start(sys.executable, "-c", SERVE, address, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "listens\n"
    return process


def answers(asking: Host, address: str) -> bool:
    return "answered" in asking.python("-c", ASK, address).stdout


def test_hosts_reach_each_other_and_the_test_reaches_them_until_they_are_cut_off() -> None:
    with Network() as net:
        a, b = net.host("a"), net.host("b")
        assert a.address != b.address
        serve(b, b.address)
        assert answers(a, b.address)
        socket.create_connection((b.address, 7000), timeout=1).close()
        b.cut()
        assert not answers(a, b.address)
        b.mend()
        until(lambda: answers(a, b.address), 10, what="it answers again")


def test_loopback_is_each_hosts_own() -> None:
    with Network() as net:
        a, b = net.host("a"), net.host("b")
        serve(b, "127.0.0.1")
        assert answers(b, "127.0.0.1")
        assert not answers(a, "127.0.0.1")


def test_processes_are_killed_on_one_host_and_by_their_command_line() -> None:
    with Network() as net:
        a, b = net.host("a"), net.host("b")
        first, second = serve(a, a.address), serve(b, b.address)
        other = a.start("sleep", "600")
        assert a.kill(r"socket, sys") == 1
        assert first.wait(5) == -signal.SIGKILL
        assert (other.poll(), second.poll()) == (None, None)
        b.crash()
        assert second.wait(5) == -signal.SIGKILL
        assert other.poll() is None


def test_nothing_is_left_of_them() -> None:
    with Network() as net:
        a = net.host("a")
        # An orphan in a session of its own, without a mark: it is found by the network that it lives in.
        orphaned = "subprocess.Popen(['sleep', '600'], start_new_session=True, env={}, stdout=-3, stderr=-3)"
        a.python("-c", f"import subprocess; {orphaned}")
        (orphan,) = a.pids("sleep 600")
        folder, mark = a.folder, net._mark
    assert not Path(f"/proc/{orphan}/ns").exists() or _is_zombie(orphan)
    assert not folder.exists()
    assert not [space for space in netns.listnetns() if space.startswith(mark)]
    with IPRoute() as ip:
        assert not [link for link in ip.get_links() if (link.get_attr("IFLA_IFNAME") or "").startswith(mark)]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_what_a_killed_run_has_left_is_removed_and_what_lives_is_not() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, alive = f"rh{gone.pid}-ab1", f"rh{os.getpid()}-ab1"
    for space in (left, alive):
        netns.create(space)
    try:
        hosts.remove_leftovers()
        assert left not in netns.listnetns()
        assert alive in netns.listnetns()
    finally:
        netns.remove(alive)


def test_a_host_has_folders_and_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    with Network() as net:
        a = net.host("a")
        names = ["HOME", "ROUNDHOUSE_HOME", "ROUNDHOUSE_REDIS_URL", "RAY_ADDRESS"]
        said = a.python("-c", f"import os; print(*map(os.environ.get, {names}))")
        assert said.stdout.split() == [str(a.user), str(a.home), "None", "None"]


def test_what_does_not_end_in_time_is_ended() -> None:
    with Network() as net:
        a = net.host("a")
        began = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            a.run("sleep", "600", timeout_s=0.2)
        assert time.monotonic() - began < 10
        assert a.pids("sleep 600") == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_the_kernel_refuses_it_says_what_is_needed(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(netns, "create", refuse)
    with Network() as net, pytest.raises(hosts.Refused, match="--cap-add NET_ADMIN"):
        net.host("a")
