"""Ctrl-C while one run of several goes on."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from loadtests.stopping import whole


def interrupted() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "what it has"


def test_a_run_that_nobody_ends_is_as_it_is() -> None:
    assert whole(lambda: "found") == "found"


def test_a_run_comes_to_its_end_before_ctrl_c_counts() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        whole(lambda: reached.append(interrupted()))
    assert reached == ["what it has"]


def test_a_second_ctrl_c_is_for_the_run_itself() -> None:
    seen: list[str] = []

    def run() -> None:
        interrupted()
        try:
            interrupted()
        except KeyboardInterrupt:
            seen.append("ended at once")

    with pytest.raises(KeyboardInterrupt):
        whole(run)
    assert seen == ["ended at once"]


def test_ctrl_c_is_what_it_was_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        whole(lambda: 1 // 0)
    assert signal.getsignal(signal.SIGINT) is before


def test_beyond_the_main_thread_it_is_run_all_the_same() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(whole(lambda: "found")))
    thread.start()
    thread.join()
    assert found == ["found"]
