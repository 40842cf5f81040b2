"""What happens once before the first fork."""

from __future__ import annotations

import threading

from models.runtimes.warming import Warmer
from tests.models.runtimes.fake_runtime import NAME, FakeRuntime


def warmed(tmp_path, *names):
    done = threading.Event()
    warmer = Warmer(tuple(f"{NAME}:{name}" for name in names), tmp_path, done.set)
    warmer.start()
    assert done.wait(30)
    warmer.finish()
    return warmer


def test_no_thread_is_left_for_a_fork_to_lose(tmp_path):
    before = threading.active_count()
    warmed(tmp_path, "make")
    assert threading.active_count() == before


def test_what_cannot_be_warmed_does_not_keep_the_others_from_it(tmp_path):
    warmer = warmed(tmp_path, "defective", "make", "missing", "no_such")
    assert isinstance(warmer.runtime("fake"), FakeRuntime)
    assert warmer.states["fake"] == "1.2.3"
    assert "accelerator" in warmer.runtime("missing")
    assert "broke" in warmer.runtime("defective")
    assert "has no no_such" in warmer.states[f"{NAME}:no_such"]


def test_the_time_it_took_stands_still_afterwards(tmp_path):
    warmer = warmed(tmp_path, "make")
    assert warmer.warm_s == warmer.warm_s > 0
