"""One rate for all: shared by node, whatever number of connections each has open."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from models.weights.peers.turns import Queue, Turns

RATE = 100.0


def drain(queue: Queue, turns: list[tuple[str, object]], until_s: float) -> Counter[str]:
    """Who was given how many bytes by then. Each asks for the next piece as soon as one was given."""
    given: Counter[str] = Counter()
    now = 0.0
    while now <= until_s:
        next_s = queue.grant(now, RATE)
        for index, (client, turn) in enumerate(list(turns)):
            if turn.granted_s is not None:  # type: ignore[attr-defined]
                given[client] += turn.count  # type: ignore[attr-defined]
                turns[index] = (client, queue.join(client, turn.count))  # type: ignore[attr-defined]
        now = next_s if next_s is not None and next_s > now else now + 0.1
    return given


def test_who_opens_more_connections_gets_no_more_of_the_rate() -> None:
    queue = Queue()
    turns: list[tuple[str, object]] = [("greedy", queue.join("greedy", 10)) for _ in range(8)]
    turns.append(("modest", queue.join("modest", 10)))
    given = drain(queue, turns, 20.0)
    assert sum(given.values()) <= RATE * 20.0 + 20
    assert abs(given["greedy"] - given["modest"]) <= 20


def test_the_rate_is_kept_and_used() -> None:
    queue = Queue()
    given = drain(queue, [("a", queue.join("a", 10))], 10.0)
    assert RATE * 10 - 20 <= given["a"] <= RATE * 10 + 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), min_size=1, max_size=30))
def test_everybody_gets_a_turn_in_time(pieces: list[tuple[str, int]]) -> None:
    """Nobody waits longer than all that was asked for takes."""
    queue = Queue()
    turns = [queue.join(client, count) for client, count in pieces]
    now, total = 0.0, sum(count for _, count in pieces)
    while (next_s := queue.grant(now, RATE)) is not None:
        now = next_s
    assert all(turn.granted_s is not None for turn in turns)
    assert now <= total / RATE + 1e-9


def test_who_was_away_has_saved_nothing_up() -> None:
    queue = Queue()
    busy = drain(queue, [("busy", queue.join("busy", 10))], 50.0)
    assert busy["busy"] > 4000
    mine = queue.join("late", 10)
    others = [queue.join("busy", 10) for _ in range(3)]
    now = 60.0
    while (next_s := queue.grant(now, RATE)) is not None:
        now = next_s
    assert mine.granted_s is not None
    assert all(each.granted_s is not None for each in others)
    assert now < 61.0, "the newcomer is not given all that the other had before it came"


def test_without_a_bound_nobody_waits_at_all() -> None:
    def never() -> float:
        raise AssertionError("nobody looks at the clock")

    Turns(lambda: 0, clock=never).take("a", 2**30)


def test_threads_wait_for_their_turns() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    turns = Turns(lambda: 1000, clock=clock)
    for _ in range(5):
        turns.take("a", 1000)
    assert now[0] >= 4.0
