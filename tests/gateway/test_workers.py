"""The master and its workers, as processes: one port, nobody refused while a worker is replaced, a clean end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.service.processes import descendants, everyone
from tests.gateway.tiny_worker import REFUSED

SOON_S = 60.0


class Crew:
    """A master with ``count`` tiny workers."""

    def __init__(self, folder: Path, count: int, *words: str, port: int = 0) -> None:
        self.ready, self.said = folder / "port", folder / "said"
        self.peers = folder / "w"
        given = ["--workers", count, "--port", port, "--ready-file", self.ready, "--peers", self.peers]
        command = [sys.executable, "-m", "gateway.workers", *map(str, given), "tests.gateway.tiny_worker", *words]
        with self.said.open("wb") as said:
            self.master = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)

    @property
    def port(self) -> int:
        until(lambda: self.ready.exists() or self.master.poll() is not None)
        assert self.master.poll() is None, self.log
        return int(self.ready.read_text())

    @property
    def log(self) -> str:
        return self.said.read_text()

    def pids(self) -> set[int]:
        return {process.pid for process in descendants((self.master.pid,), everyone())}

    def ended(self) -> int:
        return self.master.wait(SOON_S)


@pytest.fixture
def crew(sockets: Path) -> Iterator[Callable[..., Crew]]:
    crews: list[Crew] = []

    def start(count: int, *words: str, port: int = 0) -> Crew:
        crews.append(Crew(sockets, count, *words, port=port))
        return crews[-1]

    yield start
    for each in crews:
        if each.master.poll() is None:
            each.master.terminate()
            each.master.wait(SOON_S)


def until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.01)


class Caller:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SOON_S)
        self._file = self._socket.makefile("rwb")

    def ask(self) -> tuple[int, int] | None:
        """(number, pid) of who answers; None when it is gone."""
        try:
            self._file.write(b"who?\n")
            self._file.flush()
            words = self._file.readline().split()
        except OSError:
            return None
        return (int(words[0]), int(words[1])) if words else None

    def close(self) -> None:
        self._socket.close()


def one_of_each(port: int, count: int) -> dict[int, Caller]:
    """A connection to every worker; the kernel decides whose each one is."""
    found: dict[int, Caller] = {}
    end_s = time.monotonic() + SOON_S
    while len(found) < count:
        assert time.monotonic() < end_s
        caller = Caller(port)
        who = caller.ask()
        assert who is not None
        if found.setdefault(who[0], caller) is not caller:
            caller.close()
    return found


def test_all_answer_on_one_port_and_all_end_together(crew: Callable[..., Crew]) -> None:
    this = crew(3)
    callers = one_of_each(this.port, 3)
    answered = {caller.ask() for caller in callers.values()}
    assert {pid for _, pid in filter(None, answered)} == this.pids()
    assert all((this.peers / f"{index}.sock").exists() for index in range(3))
    this.master.send_signal(signal.SIGTERM)
    assert this.ended() == 0
    assert this.log.count("left ") == 3, this.log
    assert not this.peers.exists()


def test_who_is_killed_takes_only_its_own_callers_and_is_replaced(crew: Callable[..., Crew]) -> None:
    this = crew(3)
    port = this.port
    callers = one_of_each(port, 3)
    before = {index: caller.ask() for index, caller in callers.items()}
    lost = before[1]
    assert lost is not None
    os.kill(lost[1], signal.SIGKILL)
    began_s = time.monotonic()
    # From this very moment nobody is refused, whosever socket the kernel takes them to, and everybody is answered.
    new = [Caller(port) for _ in range(60)]
    answers = [caller.ask() for caller in new]
    took_s = time.monotonic() - began_s
    assert None not in answers
    successors = {pid for index, pid in filter(None, answers) if index == 1}
    assert len(successors) == 1
    assert lost[1] not in successors
    assert callers[1].ask() is None
    assert {index: callers[index].ask() for index in (0, 2)} == {index: before[index] for index in (0, 2)}
    assert '"a worker has died; starting it again"' in this.log
    print(f"60 callers answered {took_s:.2f} s after the end of one of three workers")
    for caller in new:
        caller.close()


def test_one_that_dies_again_and_again_is_started_again_and_again(crew: Callable[..., Crew]) -> None:
    this = crew(1)
    port = this.port
    for _ in range(4):
        caller = Caller(port)
        who = caller.ask()
        assert who is not None
        os.kill(who[1], signal.SIGKILL)
        assert caller.ask() is None
    last = Caller(port).ask()
    assert last is not None
    assert last[1] in this.pids()
    waits = [float(wait) for wait in re.findall(r'"wait_s": ([0-9.]+)', this.log)]
    assert waits == [0.0, 0.05, 0.1, 0.2]


def test_a_later_start_that_fails_is_tried_again(crew: Callable[..., Crew], tmp_path: Path) -> None:
    stumble = tmp_path / "stumble"
    this = crew(2, "--fail-once", str(stumble))
    callers = one_of_each(this.port, 2)
    lost = callers[0].ask()
    assert lost is not None
    stumble.touch()
    os.kill(lost[1], signal.SIGKILL)
    until(lambda: not stumble.exists())
    assert all(Caller(this.port).ask() is not None for _ in range(20))


def test_a_first_start_that_fails_ends_everything_with_its_status(crew: Callable[..., Crew]) -> None:
    this = crew(3, "--refuse")
    assert this.ended() == REFUSED
    assert not this.ready.exists()
    assert "a worker could not be started" in this.log


def test_workers_leave_when_their_master_is_killed_and_the_next_one_gets_the_port(
    crew: Callable[..., Crew], tmp_path: Path
) -> None:
    this = crew(2)
    port = this.port
    orphans = {who[1] for caller in one_of_each(port, 2).values() if (who := caller.ask())}
    this.master.kill()
    this.ended()
    this.ready.unlink()
    successor = crew(2, port=port)
    assert successor.port == port
    who = Caller(port).ask()
    assert who is not None
    assert who[1] not in orphans
    until(lambda: not orphans & {process.pid for process in everyone()})


def test_a_hangup_reaches_every_worker(crew: Callable[..., Crew]) -> None:
    this = crew(2)
    assert this.port
    this.master.send_signal(signal.SIGHUP)
    until(lambda: this.log.count("hangup") == 2)
    assert this.master.poll() is None


def test_ctrl_c_is_for_the_master_alone(crew: Callable[..., Crew]) -> None:
    """A terminal signals the whole group; a second signal would cut off what is still being answered."""
    this = crew(2)
    assert this.port
    groups = {os.getpgid(pid) for pid in this.pids()}
    assert os.getpgid(this.master.pid) not in groups
    this.master.send_signal(signal.SIGINT)
    assert this.ended() == 0


def test_a_port_that_somebody_else_shares_is_refused(crew: Callable[..., Crew]) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        this = crew(2, port=taken.getsockname()[1])
        assert this.ended() == 1
    assert this.log.startswith("cannot listen on 127.0.0.1 port")
    assert "Traceback" not in this.log


def test_the_master_is_small() -> None:
    heavy = (
        "asyncio",
        "ssl",
        "msgspec",
        "structlog",
        "redis",
        "pydantic",
        "typing_extensions",
        "dataclasses",
        "uvloop",
    )
    code = f"import sys, gateway.workers; print(sorted(set(sys.modules) & set({heavy!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
