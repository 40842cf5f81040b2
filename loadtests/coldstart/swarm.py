"""Many engines at once through a service: what each costs in memory, and how quickly one model gets eight replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from loadtests.chat import ChatRequest, Progress, stream_chat
from loadtests.coldstart.admin import Admin
from loadtests.coldstart.figure import Figure
from loadtests.coldstart.memory import Taken, available_bytes, taken, with_variable
from loadtests.coldstart.scene import CROWD, CROWD_REPLICAS, swarm_names
from loadtests.target import Target
from loadtests.wire import CallFailed

MEMORY_GOAL_MIB = 100e6 / 2**20
REPLICAS_GOAL_S = 2.0
FIRST = 10  # engines that run before the counting begins: what is paid once is paid by then
ANSWER_TIMEOUT_S = 300.0
LONG_ANSWER = 400  # tokens: every request is still being answered when the last replica is ready
READY_TIMEOUT_S = 60.0
POLL_S = 0.02
WAKERS = 4

Say = Callable[[str], None]


def engines(admin: Admin, home: str, count: int, ask: Callable[[Target, str], float], say: Say) -> list[Figure]:
    """``count`` live engines of a tiny model, and what the later ones of them have taken each."""
    names = swarm_names(count)
    each = Figure(f"memory per engine, {FIRST} to {count} of them", "swarm", goal=MEMORY_GOAL_MIB, unit="MiB")
    alone = Figure("memory per engine, its own process only", "swarm", goal=MEMORY_GOAL_MIB, unit="MiB")
    alive = Figure("live engines that answered", "swarm", goal=float(count), unit="engines", wanted="at least")
    try:
        _wake(admin, names[:FIRST])
        before, free_before = _taken(home), available_bytes()
        say(f"{FIRST} engines: {before.document()}")
        _wake(admin, names[FIRST:])
        after, free_after = _taken(home), available_bytes()
        say(f"{count} engines: {after.document()}")
        more = max(1, count - FIRST)
        each.values = [(after.pss_bytes - before.pss_bytes) / more / 2**20]
        each.beside = {"available memory, MiB each": round((free_before - free_after) / more / 2**20, 1)}
        each.beside |= {"before": before.document(), "after": after.document()}
        pids = [int(replica["pid"]) for replica in admin.replicas() if replica["model_id"] in names]
        alone.values = [taken(pids).pss_bytes / max(1, len(pids)) / 2**20]
        alive.values = [float(sum(ask(admin.target, name) > 0 for name in names))]
    except CallFailed as problem:
        each.problem = alone.problem = alive.problem = str(problem)
    for name in names:
        try:
            admin.stop(name)
        except CallFailed as problem:
            say(f"{name}: {problem}")
    return [each, alone, alive]


def _wake(admin: Admin, names: Sequence[str]) -> None:
    with ThreadPoolExecutor(WAKERS) as threads:
        list(threads.map(admin.wake, names))


def _taken(home: str) -> Taken:
    return taken(with_variable("ROUNDHOUSE_HOME", home))


def replicas(admin: Admin, count: int) -> list[Figure]:
    """Nothing runs, then eight callers come at once: seconds until eight replicas are ready."""
    figure = Figure(f"0 to {CROWD_REPLICAS} replicas ready", CROWD, goal=REPLICAS_GOAL_S)
    try:
        for number in range(count + 1):
            admin.stop(CROWD)
            seconds = _crowd(admin)
            if number:
                figure.values.append(seconds)
    except CallFailed as problem:
        figure.problem = str(problem)
    return [figure]


def _crowd(admin: Admin) -> float:
    began_s = time.perf_counter()
    with ThreadPoolExecutor(CROWD_REPLICAS) as threads:
        asked = [threads.submit(_long_answer, admin.target) for _ in range(CROWD_REPLICAS)]
        while True:
            ready = sum(replica["state"] == "ready" for replica in admin.replicas(CROWD))
            seconds = time.perf_counter() - began_s
            if ready >= CROWD_REPLICAS:
                break
            if seconds > READY_TIMEOUT_S:
                raise CallFailed(f"only {ready} of {CROWD_REPLICAS} replicas were ready after {seconds:.0f} s")
            time.sleep(POLL_S)
        for answer in asked:
            answer.result()
    return seconds


def _long_answer(target: Target) -> None:
    progress = Progress(started_s=time.perf_counter())
    request = ChatRequest(CROWD, "Tell me something.", LONG_ANSWER, whole_length=True)
    stream_chat(target, request, progress, time.perf_counter, ANSWER_TIMEOUT_S)
