"""The passes of the benchmark: bring a model into a state, ask for one streamed answer, time its first token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from loadtests.chat import ChatRequest, Clock, Progress, StreamBroken, stream_chat
from loadtests.coldstart.admin import Admin
from loadtests.coldstart.figure import Figure
from loadtests.target import Target
from loadtests.wire import CallFailed

ANSWER_TIMEOUT_S = 120.0
MAX_TOKENS = 8

# docs/benchmarks.md names the goals. An asleep replica is measured against a ready one, see ``passes``.
STOPPED_GOAL_S = 0.35
ASLEEP_GOAL_OVER_READY_S = 0.03


def first_token_s(target: Target, model: str, clock: Clock = time.perf_counter) -> float:
    """Seconds from sending a chat request to the first event with text; the answer is read to its end.

    Raises CallFailed, and StreamBroken for an answer without text.
    """
    progress = Progress(started_s=clock())
    request = ChatRequest(model, "Tell me something.", MAX_TOKENS)
    stream_chat(target, request, progress, clock, ANSWER_TIMEOUT_S)
    if progress.ttft_s is None:
        raise StreamBroken(f"{model} answered without a single token")
    return progress.ttft_s


def passes(
    admin: Admin,
    model: str,
    count: int,
    say: Callable[[str], None],
    first_token: Callable[[Target, str], float],
    goal_s: float = STOPPED_GOAL_S,
) -> list[Figure]:
    """Stopped, ready and asleep, interleaved so that a slow minute of the machine meets all three alike.

    1. One uncounted pass brings the weights into the page cache and the engine's caches into being.
    2. Each pass: stop, ask (stopped); ask again (ready); sleep, ask (asleep).
    3. What fails ends the passes of that model; its figures keep what they have and say why.
    """
    stopped = Figure("stopped model to first token", model, goal=goal_s)
    ready = Figure("ready model to first token", model)
    asleep = Figure("asleep model to first token", model)
    steps = (
        (stopped, lambda: admin.stop(model)),
        (ready, lambda: None),
        (asleep, lambda: admin.put_to_sleep(model)),
    )
    for number in range(count + 1):
        try:
            _one_pass(steps, lambda: first_token(admin.target, model), counted=number > 0)
        except CallFailed as problem:
            say(f"{model}: {problem}")
            for figure, _ in steps:
                figure.problem = str(problem)
            break
    if ready.values:
        asleep.goal = ready.median + ASLEEP_GOAL_OVER_READY_S
    return [stopped, ready, asleep]


def _one_pass(steps: Iterable[tuple[Figure, Callable[[], None]]], ask: Callable[[], float], counted: bool) -> None:
    for figure, prepare in steps:
        prepare()
        seconds = ask()
        if counted:
            figure.values.append(seconds)
        else:
            figure.beside["uncounted first pass"] = round(seconds, 4)
