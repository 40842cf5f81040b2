"""When a failed start is tried again, and when a crash loop ends."""

from __future__ import annotations

import math

import pytest

from models.control.failures import CRASHES_AT_ONCE, CRASHES_MAX, LONGEST_BACKOFF_S, STEADY_S, FailureBook
from models.runtimes.protocol import Fault
from packers.types import ModelId

A = ModelId("a")


def test_failed_starts_wait_twice_as_long_each_time_up_to_a_minute() -> None:
    book, waits_s = FailureBook(), []
    for now in range(100, 108):
        failure = book.failed(A, "no", float(now), fault="memory", content="x")
        waits_s.append(failure.retry_at_unix_s - now)
    assert waits_s == [1, 2, 4, 8, 16, 32, LONGEST_BACKOFF_S, LONGEST_BACKOFF_S]
    assert (failure.fault, failure.attempts, failure.permanent) == ("memory", 8, False)
    book.served(A)
    assert book.get(A) is None
    assert book.failed(A, "no", 200.0).retry_at_unix_s == 201.0


@pytest.mark.parametrize("fault", ["weights", "code"])
def test_what_only_other_files_can_cure_is_not_tried_again(fault: Fault) -> None:
    book = FailureBook()
    failure = book.failed(A, "damaged", 100.0, fault=fault, content="as it was")
    assert failure.permanent
    assert book.retry_at(A) == math.inf
    assert book.lasting() == {A: "as it was"}
    book.forget(A)
    assert (book.retry_at(A), book.lasting()) == (0.0, {})


@pytest.mark.parametrize("fault", ["hang", "memory", "canary", "other"])
def test_what_may_pass_is_tried_again(fault: Fault) -> None:
    book = FailureBook()
    assert not book.failed(A, "hm", 100.0, fault=fault, content="as it was").permanent
    assert book.retry_at(A) == 101.0
    assert book.lasting() == {}


def test_a_source_that_no_engine_has_seen_is_looked_at_again_soon() -> None:
    """Looking costs milliseconds, and the folder may just be on its way here."""
    failure = FailureBook().failed(A, "the folder does not exist", 100.0, fault="weights", content=None)
    assert not failure.permanent


def test_crashes_now_and_then_are_replaced_at_once() -> None:
    book = FailureBook()
    for now in range(20):
        assert book.crashed(A, "killed", float(now), ready_for_s=STEADY_S) is None
    for now in range(CRASHES_AT_ONCE - 1):
        assert book.crashed(A, "killed", float(now), ready_for_s=1.0) is None


def test_a_crash_loop_slows_down_and_ends() -> None:
    book, seen = FailureBook(), []
    for _ in range(CRASHES_MAX):
        seen.append(book.crashed(A, "segmentation fault", 100.0, ready_for_s=2.0, fault="other"))
        book.served(A)
    assert seen[:CRASHES_AT_ONCE] == [None] * CRASHES_AT_ONCE
    waits_s = [failure.retry_at_unix_s - 100.0 for failure in seen[CRASHES_AT_ONCE:-1] if failure]
    assert waits_s == [1, 2, 4, 8, 16]
    last = seen[-1]
    assert last is not None
    assert (last.permanent, last.code) == (True, "model_keeps_crashing")
    assert last.message == ("it crashed 8 times in a row, each within 60 s of its start: segmentation fault")
    assert book.lasting() == {}, "other files are no cure that anybody knows of"


def test_a_crash_loop_that_has_ended_lets_nothing_start() -> None:
    book = FailureBook()
    for _ in range(CRASHES_MAX):
        book.crashed(A, "x", 100.0, ready_for_s=0.0)
    assert book.retry_at(A) == math.inf
    book.forget(A)
    assert book.crashed(A, "x", 100.0, ready_for_s=0.0) is None, "an operator's wake begins anew"


def test_what_never_fits_is_news_once_and_left_to_the_packer() -> None:
    book = FailureBook()
    assert book.refused(A, "too large", 1.0)
    assert not book.refused(A, "too large", 2.0)
    assert book.refused(A, "much too large", 3.0)
    failure = book.get(A)
    assert failure is not None
    assert (failure.permanent, failure.code, failure.fault) == (True, "insufficient_gpu_memory", "memory")
    assert book.retry_at(A) == 0.0
