"""What happens once before the first fork."""

from __future__ import annotations

import threading

from models.runtimes import registry
from models.runtimes.launcher.recipe import Recipe
from models.runtimes.launcher.warming import Warmer
from models.runtimes.launcher.zygote_wire import Broken, Warm, Warming
from models.runtimes.protocol import EngineError
from tests.models.runtimes.fake_runtime import NAME, FakeRuntime


def warmed(tmp_path, *names, **settings):
    """A warmer that is done, and what it told."""
    told, done = [], threading.Event()

    def tell(message):
        told.append(message)
        if isinstance(message, Warm | Broken):
            done.set()

    warmer = Warmer(Recipe(names=tuple(f"{NAME}:{name}" for name in names), **settings), tmp_path, tell)
    warmer.start()
    assert done.wait(30)
    warmer.finish()
    return warmer, told


def test_no_thread_is_left_for_a_fork_to_lose(tmp_path):
    before = threading.active_count()
    warmed(tmp_path, "make")
    assert threading.active_count() == before


def test_what_cannot_be_warmed_does_not_keep_the_others_from_it(tmp_path):
    warmer, told = warmed(tmp_path, "defective", "make", "missing", "no_such")
    assert isinstance(warmer.runtimes["fake"], FakeRuntime)
    assert warmer.runtimes.keys() == {"fake"}
    states = told[-1].states
    assert states["fake"] == "1.2.3"
    assert "accelerator" in states["missing"]
    assert "broke" in states["defective"]
    assert "has no no_such" in states[f"{NAME}:no_such"]


def test_it_tells_what_it_is_about_before_it_begins(tmp_path):
    _, told = warmed(tmp_path, "make")
    name = f"{NAME}:make"
    steps = [(message.name, message.step) for message in told if isinstance(message, Warming)]
    assert steps == [(name, "looked up"), (name, "imported"), (name, "warmed")]
    assert told[-1].warm_s > 0


def test_what_was_given_up_is_not_even_imported(tmp_path):
    warmer, told = warmed(tmp_path, "make", given_up={f"{NAME}:make": "its warm-up hangs"})
    assert warmer.runtimes == {}
    assert told == [Warm(states={"make": "unavailable: its warm-up hangs"}, paths={}, warm_s=told[-1].warm_s)]


def test_one_with_a_fallback_that_breaks_is_the_end_of_this_process(tmp_path, monkeypatch):
    name = f"{NAME}:defective"
    monkeypatch.setitem(registry.FALLBACKS, name, FakeRuntime)
    _, told = warmed(tmp_path, "defective", "make")
    assert told[-1] == Broken(name, "its warm-up failed (RuntimeError: a defect)")


def test_a_version_that_is_not_supported_is_told_in_its_own_words(tmp_path, monkeypatch):
    name = f"{NAME}:make"
    monkeypatch.setitem(registry.FALLBACKS, name, FakeRuntime)

    def preimport(_runtime):
        raise EngineError("this version of vLLM is not supported: vllm.x.y is gone")

    monkeypatch.setattr(FakeRuntime, "preimport", preimport)
    _, told = warmed(tmp_path, "make")
    assert told[-1] == Broken(name, "this version of vLLM is not supported: vllm.x.y is gone")


def test_a_fallback_is_made_with_the_reason_for_it(tmp_path, monkeypatch):
    name = f"{NAME}:defective"
    monkeypatch.setitem(registry.FALLBACKS, name, lambda why: FakeRuntime(f"because {why}"))
    warmer, told = warmed(tmp_path, "defective", plain={name: "it crashed"})
    assert warmer.runtimes.keys() == {"because it crashed"}
    assert told[-1].paths == {"because it crashed": "plain: it crashed"}
