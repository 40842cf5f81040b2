"""Which processes belong to an installation: real ones, started and asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from gateway.service.processes import (
    Process,
    ProcessId,
    alive,
    ancestors,
    command_line,
    descendants,
    environment,
    everyone,
    family,
    find,
    identify,
    send,
)
from models.home import INSTANCE_ENV
from tests.gateway.service.conftest import Started
from tests.gateway.service.eventually import eventually

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
OURS = f"ours-{os.getpid()}"  # other runs of these tests may go on beside this one
# Starts a child and says its pid; with the argument "bare" the child does not inherit the environment.
PARENT = """
import os, subprocess, sys, time
env = {} if sys.argv[1] == "bare" else None
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def tagged(tag: str) -> dict[str, str]:
    return {**os.environ, INSTANCE_ENV: tag}


def test_a_process_is_known_by_pid_and_start_time(start: Started) -> None:
    process = start(*SLEEP)
    known = identify(process.pid)
    assert known is not None
    assert known == identify(process.pid)
    assert alive(known)
    assert not alive(ProcessId(known.pid, known.start_ticks - 1)), "an earlier process with the same pid"
    process.kill()
    eventually(lambda: not alive(known), "the process is gone, although nobody has collected its exit status")
    process.wait()
    assert identify(process.pid) is None


def test_a_later_process_with_the_same_pid_is_never_signalled(start: Started) -> None:
    process = start(*SLEEP)
    known = identify(process.pid)
    assert known is not None
    assert not send(ProcessId(known.pid, known.start_ticks - 1), signal.SIGKILL)
    assert alive(known)
    assert send(known, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not send(known, signal.SIGKILL), "it is gone"


def test_a_name_with_parentheses_and_spaces_is_read_right(start: Started) -> None:
    code = "import ctypes, time; ctypes.CDLL(None).prctl(15, b') S 1 (x', 0, 0, 0); print(flush=True); time.sleep(600)"
    process = start(sys.executable, "-c", code, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    found = find(process.pid)
    assert found is not None
    assert (found.parent, found.uid) == (os.getpid(), os.geteuid())


def test_what_a_process_was_started_with(start: Started) -> None:
    process = start(*SLEEP, env=tagged("mine"))
    eventually(lambda: "sleep" in command_line(process.pid), "exec is done")
    assert environment(process.pid)[INSTANCE_ENV] == "mine"
    assert environment(2**22 + 1) == {}
    assert command_line(2**22 + 1) == ""


def test_a_family_is_what_carries_the_tag_and_what_is_below_it(start: Started) -> None:
    stranger = start(*SLEEP)
    relative = start(*SLEEP, env=tagged("another"))
    parents = [
        start(sys.executable, "-c", PARENT, how, env=tagged(OURS), stdout=subprocess.PIPE) for how in ("", "bare")
    ]
    children = [int(parent.stdout.readline()) for parent in parents if parent.stdout]
    try:
        found = {process.pid for process in family(OURS)}
        assert found == {parent.pid for parent in parents} | set(children)
        assert not found & {stranger.pid, relative.pid, os.getpid()}
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_what_lost_both_tag_and_parent_is_found_by_its_session(start: Started) -> None:
    code = (
        "import subprocess, sys, time\n"
        "middle = 'from sys import *; from subprocess import *; print(Popen([executable, *argv[1:]], env={}).pid)'\n"
        "subprocess.run([sys.executable, '-c', middle, '-c', 'import time; time.sleep(600)'])\n"
        "time.sleep(600)\n"
    )
    leader = start(sys.executable, "-c", code, env=tagged(OURS), stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    orphan = int(leader.stdout.readline())
    known = identify(orphan)
    assert known is not None
    try:
        eventually(lambda: (found := find(orphan)) and found.parent != leader.pid, "its parent has ended")
        assert known in family(OURS)
    finally:
        send(known, signal.SIGKILL)


def test_what_has_lost_its_tag_is_ours_when_it_is_noted(start: Started) -> None:
    untagged, stranger = start(*SLEEP), start(*SLEEP)
    noted = identify(untagged.pid)
    assert noted is not None
    found = family(OURS, frozenset({noted, ProcessId(stranger.pid, 1)}))
    assert found == {noted}, "a note of an earlier process with the stranger's pid says nothing of the stranger"


def test_whoever_asks_is_no_part_of_the_family(start: Started) -> None:
    code = f"from gateway.service.processes import family; print(len(family({OURS!r})))"
    asking = start(sys.executable, "-c", code, env=tagged(OURS), stdout=subprocess.PIPE)
    assert asking.communicate()[0] == "0\n"


def test_all_below_a_process_can_be_counted_in(start: Started) -> None:
    child = start(*SLEEP)
    assert child.pid in {process.pid for process in family("no such tag", also_below=os.getpid())}
    assert child.pid in {process.pid for process in everyone()}


def test_ancestors_go_up_to_the_first_process() -> None:
    assert {os.getpid(), os.getppid()} <= ancestors(os.getpid())


@given(st.lists(st.integers(0, 20), max_size=20))
def test_descendants_are_those_from_whom_a_root_can_be_reached(parents: list[int]) -> None:
    processes = [Process(ProcessId(pid, 1), parent, session=1, uid=0) for pid, parent in enumerate(parents, start=1)]
    parent_of = {process.pid: process.parent for process in processes}

    def comes_from(pid: int, root: int) -> bool:
        seen: set[int] = set()
        while pid in parent_of and pid not in seen:
            seen.add(pid)
            pid = parent_of[pid]
            if pid == root:
                return True
        return False

    found = {process.pid for process in descendants([1], processes)}
    assert found == {pid for pid in parent_of if comes_from(pid, 1)}
