"""What a caller saw, in seconds from when its request was due."""

from __future__ import annotations

from loadtests.client.call import TIMEOUT, Ask, Call

ASK = Ask("m", "chat", b'{"secret": 1}', key="sk-secret")


def test_latency_counts_from_when_it_was_due_and_else_from_the_sending() -> None:
    late = Call(ASK, scheduled_s=1.0, sent_s=1.5, token_times_s=[2.0, 2.25, 3.0])
    assert (late.begun_s, late.ttft_s) == (1.0, 1.0)
    assert late.gaps_s == [0.25, 0.75]
    closed = Call(ASK, sent_s=1.5, token_times_s=[2.0])
    assert (closed.begun_s, closed.ttft_s, closed.gaps_s) == (1.5, 0.5, [])


def test_without_a_token_there_is_no_first_one() -> None:
    assert Call(ASK).ttft_s is None
    assert Call(ASK).gaps_s == []


def test_the_first_failure_counts() -> None:
    call = Call(ASK)
    call.fail(TIMEOUT, "no byte")
    call.fail("engine_died", "the engine died")
    assert (call.error, call.message) == (TIMEOUT, "no byte")


def test_neither_keys_nor_prompts_are_shown() -> None:
    assert "secret" not in repr(ASK)


def test_calls_are_told_apart_although_they_look_alike() -> None:
    assert Call(ASK) != Call(ASK)
