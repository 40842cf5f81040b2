"""What each fault may cost, in figures, and which of them a cell has broken. Pure.

The promises: R1 a replica is killed, R3 one hangs, R4 a worker of the gateway dies, R5 the controller dies, R6 Ray's
head dies. Redis: what serves goes on serving, what has to be started waits. In every cell: the ledger holds, nothing
is placed twice, nothing is left over, nothing that lives is given up, and everything is as it was in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.chaos.calls import BEFORE_FIRST_BYTE, Call, How
from loadtests.chaos.cell import Result
from loadtests.chaos.scene import STEADY

UNCONNECTED_S = 1.0  # R4: how long connections may be refused
ROTATION_S = 10.0  # R3: by then a hanging replica gets no more requests
HANG_S = 15.0  # by then it is known to hang, and is ended
SLACK_S = 2.0  # for what is beside the figure: the request itself, a look every 50 ms


@dataclass(frozen=True, slots=True)
class Price:
    """What a fault may cost. Seconds, from its end until each condition of ``recovery`` holds again.

    ``calls``: what is wrong with the calls, beyond what is allowed. ``first_byte_s``: the longest that callers of what
    serves may wait for one. ``restarts``: the controller is started anew.
    """

    promise: str
    recover_s: float
    calls: Callable[[Result], list[str]]
    first_byte_s: float | None = None


def nobody_fails(result: Result) -> list[str]:
    """Every call is answered; one that needs something started may be refused in order, but none that is served."""
    return [_said(call) for call in result.calls if call.failed] + _refused_without_need(result)


def streams_may_end(result: Result) -> list[str]:
    """Nobody fails before the first byte; after it a stream may end with an error event."""
    return [
        _said(call) for call in result.calls if call.failed and not (call.streamed and call.how is How.ERROR_EVENT)
    ] + _refused_without_need(result)


def those_with_it(result: Result) -> list[str]:
    """Calls that the dying worker had, or that were queued for it, may end with it; connections are refused for a
    second at most, and whoever comes later is served."""
    late_s = result.struck_s + UNCONNECTED_S
    wrong = [_said(call) for call in result.calls if call.failed and call.began_s > late_s]
    return wrong + _refused_without_need(result)


def _refused_without_need(result: Result) -> list[str]:
    return [_said(call) for call in result.calls if call.how is How.REFUSED and call.model == STEADY]


def _said(call: Call) -> str:
    side = "before" if call.how in BEFORE_FIRST_BYTE else "after"
    side = "" if call.how is How.REFUSED else f" {side} the first byte"
    return f"a call of {call.model} failed{side}: {call.how}: {call.text}"


PRICES = {
    "engine-9": Price("R1", 10.0 + SLACK_S, streams_may_end),
    "engine-stop": Price("R3", HANG_S + 10.0, streams_may_end, first_byte_s=ROTATION_S + SLACK_S),
    "worker-9": Price("R4", 10.0, those_with_it),
    "controller-9": Price("R5", 10.0, nobody_fails),
    "controller-silent": Price("R5", 10.0, nobody_fails),
    "node-9": Price("serving goes on", 30.0, nobody_fails),
    "keeper-9": Price("serving goes on", 30.0, nobody_fails),
    "launcher-9": Price("serving goes on", 90.0, nobody_fails),
    "raylet-9": Price("R6", 60.0, nobody_fails),
    "gcs-9": Price("R6", 60.0, nobody_fails),
    "redis-9": Price("R7", 10.0, nobody_fails),
    "redis-silent": Price("R7", 10.0, nobody_fails),
}


def broken(result: Result, price: Price | None = None) -> list[str]:
    """Why the cell is red; empty when it is green. Like reasons are told once, with how often."""
    price = price or PRICES[result.fault]
    if result.problem:
        return [f"it could not be played: {result.problem}"]
    wrong = _counted(price.calls(result))
    if result.stuck:
        wrong.append(f"{result.stuck} callers never got an answer of any kind")
    if result.call_s is None:
        wrong.append(f"no call of {STEADY} was answered after it")
    if result.recovered.whole and result.again_s is None:
        wrong.append("nothing can be started any more")
    wrong += _too_slow(result, price)
    wrong += [f"{what} ({times} times)" for what, times in result.seen.wrong.items()]
    wrong += [f"{replica} did not survive it" for replica in result.lost]
    return wrong + [f"a replica of {STEADY} was taken away: {reason}" for reason in result.moved]


def _too_slow(result: Result, price: Price) -> list[str]:
    wrong = []
    for name, seconds in result.recovered.after_s.items():
        if seconds is None:
            wrong.append(f"not recovered ({name}): {result.recovered.missing.get(name, 'it did not last')}")
        elif seconds > price.recover_s:
            wrong.append(f"{name} took {seconds:.1f} s, {price.recover_s:g} s are allowed")
    if price.first_byte_s is not None and result.slowest_s > price.first_byte_s:
        wrong.append(f"a caller waited {result.slowest_s:.1f} s for a first byte, {price.first_byte_s:g} s are allowed")
    return wrong


def _counted(wrong: list[str]) -> list[str]:
    return [f"{text} ({wrong.count(text)} times)" for text in dict.fromkeys(wrong)]
