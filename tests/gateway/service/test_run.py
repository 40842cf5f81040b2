"""Whole runs with tiny parts: real processes, real signals, and nothing left whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.service import credentials, record
from gateway.service.ports import free_port
from gateway.service.processes import PROC, ProcessId, alive, command_line, everyone, identify, send
from models.home import Home
from models.store.api_keys import decode_keys, hash_key
from models.store.client import connect, unix_url
from models.store.keys import Keys
from tests.gateway.service.conftest import Started
from tests.gateway.service.eventually import eventually
from tests.gateway.service.fake_service import DEAF


class Service:
    """A fake service as a process of its own."""

    def __init__(self, start: Started, home: Home, kind: str = "", port: int = 0) -> None:
        self.home = home
        self.port = port or free_port("127.0.0.1")
        module = "tests.gateway.service.fake_service"
        command = (sys.executable, "-m", module, str(home.root), str(self.port), *([kind] if kind else []))
        # A session of its own, as under a terminal of its own.
        self.process = start(*command, stdout=subprocess.PIPE, start_new_session=True)

    def says(self, text: str) -> list[str]:
        """Its lines up to the one that holds ``text``."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if text in line:
                return lines
        raise AssertionError(f"it never said {text!r}, but:\n" + "\n".join(lines))

    def ends(self) -> int:
        return self.process.wait(60)

    def brood(self) -> list[int]:
        """The child and the untagged orphan of the brood, wherever they hang now."""
        return brood(self.home)


def brood(home: Home) -> list[int]:
    line = f"{DEAF} {home.root}"
    return [process.pid for process in everyone() if command_line(process.pid).endswith(line)]


@pytest.fixture(autouse=True)
def nothing_of_the_brood_stays(home: Home) -> Iterator[None]:
    """What carries no tag and hangs below nobody can be found only while its ancestors live; here, by its arguments."""
    yield
    for pid in brood(home):
        os.kill(pid, signal.SIGKILL)


def part(home: Home, name: str) -> record.PartRecord:
    running = record.running(home)
    assert running is not None
    return next(each for each in running.parts if each.name == name)


def test_a_run_from_start_to_end(start: Started, home: Home) -> None:
    service = Service(start, home)
    said = service.says("it serves")
    ready = [line.split()[0] for line in said if " ready " in line]
    assert ready.index("redis") < ready.index("gateway")
    running = record.running(home)
    assert running is not None
    assert (running.url, running.state, running.pid) == (
        f"http://127.0.0.1:{service.port}",
        "serving",
        service.process.pid,
    )
    assert {each.name: each.state for each in running.parts} == {"redis": "ready", "gateway": "ready", "brood": "ready"}
    assert record.holder(home) == identify(service.process.pid)
    assert len(service.brood()) == 2
    service.process.terminate()
    assert service.ends() == 0
    service.says("it has ended")
    assert record.processes(home) == frozenset()
    assert service.brood() == [], "the one without tag, parent and session was ended, too"
    assert not [each.name for each in running.parts if alive(ProcessId(each.pid or 0, each.start_ticks or 0))]
    assert not home.service_file.exists()
    assert record.holder(home) is None


def test_keys_are_made_once_and_kept(start: Started, home: Home) -> None:
    texts = []
    for _ in range(2):
        service = Service(start, home)
        service.says("it serves")
        assert home.demo_env.stat().st_mode & 0o777 == 0o600
        written = credentials.read(home.demo_env)
        assert written["ROUNDHOUSE_URL"] == f"http://127.0.0.1:{service.port}"
        texts.append((written["ROUNDHOUSE_API_KEY"], written["ROUNDHOUSE_ADMIN_KEY"]))
        known = decode_keys(connect(unix_url(home.redis_socket)).hgetall(Keys().api_keys))
        assert [known[hash_key(text)].scopes for text in texts[-1]] == [("inference",), ("admin",)]
        service.process.send_signal(signal.SIGINT)
        assert service.ends() == 0
    assert texts[0] == texts[1]


def test_a_part_that_fails_to_start_takes_everything_back(start: Started, home: Home) -> None:
    service = Service(start, home, "broken")
    assert service.says("StartFailed")[-1] == "StartFailed: broken ended with exit status 1 it is broken"
    assert service.ends() == 1
    assert record.processes(home) == frozenset()
    assert service.brood() == []
    assert not home.service_file.exists()


def test_killed_while_serving_nothing_is_left(start: Started, home: Home) -> None:
    service = Service(start, home)
    service.says("it serves")
    service.process.kill()
    eventually(lambda: not record.processes(home), "the guard has cleared up")


def test_killed_in_the_middle_of_its_start_nothing_is_left(start: Started, home: Home) -> None:
    service = Service(start, home, "slow")
    eventually(lambda: home.service_file.exists() and part(home, "slow").state == "starting", "it is starting")
    eventually(lambda: len(service.brood()) == 2, "the brood has hatched")
    service.process.kill()
    eventually(lambda: not record.processes(home), "the guard has cleared up")


def test_stopped_in_the_middle_of_its_start_nothing_is_left(start: Started, home: Home) -> None:
    service = Service(start, home, "slow")
    eventually(lambda: home.service_file.exists() and part(home, "gateway").state == "ready", "it is starting")
    service.process.send_signal(signal.SIGINT)
    assert service.ends() == 0
    assert record.processes(home) == frozenset()
    assert service.brood() == []


def test_a_second_interrupt_forces_the_end(start: Started, home: Home) -> None:
    service = Service(start, home, "stubborn")
    service.says("it serves")
    service.process.send_signal(signal.SIGINT)
    service.says("once more to kill")
    assert service.process.poll() is None, "it waits for the stubborn part, for a minute if need be"
    service.process.send_signal(signal.SIGINT)
    assert service.ends() == 0
    assert record.processes(home) == frozenset()


def test_a_second_service_for_the_same_folder_is_refused(start: Started, home: Home) -> None:
    first = Service(start, home)
    first.says("it serves")
    second = Service(start, home)
    said = second.says("AlreadyRunning")[-1]
    assert f"http://127.0.0.1:{first.port}" in said
    assert second.ends() == 1
    assert record.running(home) is not None, "the first is not disturbed"
    first.process.terminate()
    assert first.ends() == 0


def test_a_port_that_is_in_use_is_refused_before_anything_starts(start: Started, home: Home) -> None:
    first = Service(start, home)
    first.says("it serves")
    other = Home(home.root / "other")
    second = Service(start, other, port=first.port)
    said = second.says("PortInUse")[-1]
    assert f"by the Roundhouse in {home.root}" in said
    assert "roundhouse down --home" in said
    assert second.ends() == 1
    assert not (other.logs / "redis.log").exists()
    first.process.terminate()
    assert first.ends() == 0


def test_what_a_killed_service_and_guard_have_left_is_ended_by_the_next(start: Started, home: Home) -> None:
    first = Service(start, home)
    first.says("it serves")
    guards = [process for process in record.processes(home) if "gateway.service.guard" in command_line(process.pid)]
    assert len(guards) == 1
    redis = part(home, "redis").pid
    assert redis is not None
    os.kill(redis, signal.SIGSTOP)  # so that it does not heed its starter's death; it wears no tag either
    os.kill(first.process.pid, signal.SIGSTOP)  # so that it does not replace its guard
    send(guards[0], signal.SIGKILL)
    first.process.kill()
    first.process.wait()
    eventually(lambda: not Path(PROC / str(guards[0].pid)).exists(), "the guard is gone")
    left = {process.pid for process in record.processes(home)}
    assert redis in left
    assert len(left & set(first.brood())) == 1, "the deaf child is still there"
    second = Service(start, home)
    assert "earlier run had left behind" in "\n".join(second.says("it serves"))
    second.process.terminate()
    assert second.ends() == 0
    assert record.processes(home) == frozenset()


def test_a_guard_that_ends_is_replaced(start: Started, home: Home) -> None:
    def guards() -> list[int]:
        return [one.pid for one in record.processes(home) if "gateway.service.guard" in command_line(one.pid)]

    service = Service(start, home)
    service.says("it serves")
    (first,) = guards()
    identity = identify(first)
    assert identity is not None
    ticks = os.sysconf("SC_CLK_TCK")

    def old_enough() -> bool:
        up_s = float(Path("/proc/uptime").read_text().split()[0])
        return up_s - identity.start_ticks / ticks > 1.5

    eventually(old_enough, "it has lived long enough to be worth replacing")
    os.kill(first, signal.SIGKILL)
    service.says("another one was started")
    assert guards() not in ([], [first])
    service.process.terminate()
    assert service.ends() == 0


def test_a_part_that_dies_is_replaced_and_both_are_on_record(start: Started, home: Home) -> None:
    service = Service(start, home, "mortal")
    service.says("it serves")
    service.says("starting it again")
    eventually(lambda: part(home, "mortal").restarts >= 1 and part(home, "mortal").state == "ready", "it is back")
    service.process.terminate()
    assert service.ends() == 0
    assert record.processes(home) == frozenset()
