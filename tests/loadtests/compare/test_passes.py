"""Turns: everyone in each pass, another one first each time; whoever fails is left out, the others go on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.compare.passes import WARM_REQUESTS, Compared, Contender, compare, contenders
from loadtests.compare.place import Place
from loadtests.driver import NoRun
from loadtests.gateway.problems import DidNotStart
from loadtests.load.settings import Settings
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService

SETTINGS = Settings(suite="steady", models=("m",), salt="abc")


class Stage:
    """Runs are none here: what was asked for is written down. ``fails``: names that fail in their n-th run."""

    def __init__(self, target: Target, **fails: Any) -> None:
        self.target = target
        self.fails = fails
        self.asked: list[tuple[str, str]] = []
        self.settings: list[Settings] = []
        self.open: list[str] = []
        self.said: list[str] = []

    def contender(self, name: str) -> Contender:
        @contextlib.contextmanager
        def present() -> Iterator[Target]:
            assert not self.open, "one at a time"
            if isinstance(problem := self.fails.get(name), DidNotStart | subprocess.SubprocessError):
                raise problem
            self.open.append(name)
            try:
                yield self.target
            finally:
                self.open.remove(name)

        return present

    def run(self, settings: Settings, target: Target, out: Path) -> dict[str, Any]:
        assert target == self.target
        name, number = out.name.split("-", 1)
        assert self.open == [name]
        if number == "2" and isinstance(problem := self.fails.get(name), NoRun):
            raise problem
        self.asked.append((name, number))
        self.settings.append(settings)
        if self.fails.get(name) == f"ctrl-c {number}":
            os.kill(os.getpid(), signal.SIGINT)
        busy = self.fails.get(name) == f"busy {number}"
        return {"of": name, "generator": {"valid": not busy, "reasons": ["a core was full"] * busy}}

    def play(self, *names: str, passes: int = 2) -> Compared:
        present = {name: self.contender(name) for name in names}
        return compare(present, SETTINGS, passes, Path("/out"), self.run, self.said.append)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService({"m": FakeModel(state="ready")}).running() as running:
        yield running


def test_another_one_goes_first_in_each_pass(service: FakeService) -> None:
    stage = Stage(service.target)
    found = stage.play("a", "b", "c", passes=3)
    assert [name for name, _ in stage.asked] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert {name: len(runs) for name, runs in found.runs.items()} == {"a": 3, "b": 3, "c": 3}
    assert not found.missing
    assert stage.said[0] == "pass 1 of 3: a"


def test_everyone_is_asked_the_same_but_for_the_salt(service: FakeService) -> None:
    stage = Stage(service.target)
    stage.play("a", "b")
    salts = {settings.salt for settings in stage.settings}
    assert len(salts) == 4
    assert len({len(salt) for salt in salts}) == 1, "as many tokens each"
    assert {settings.models for settings in stage.settings} == {("m",)}


def test_each_pass_begins_warm(service: FakeService) -> None:
    Stage(service.target).play("a", passes=2)
    assert len(service.asked) == 2 * WARM_REQUESTS


def test_who_does_not_start_is_left_out_and_the_others_go_on(service: FakeService) -> None:
    stage = Stage(service.target, b=DidNotStart("b ended with 2:\nno such option"))
    found = stage.play("a", "b", "c")
    assert found.missing == {"b": "b ended with 2:\nno such option"}
    assert set(found.runs) == {"a", "c"}
    assert stage.said.count("pass 2 of 2: b") == 0


def test_who_cannot_be_ended_is_left_out_and_the_others_go_on(service: FakeService) -> None:
    stage = Stage(service.target, a=subprocess.TimeoutExpired("down", 90.0))
    found = stage.play("a", "b")
    assert "timed out" in found.missing["a"]
    assert len(found.runs["b"]) == 2


def test_ctrl_c_ends_it_with_what_is_whole(service: FakeService) -> None:
    stage = Stage(service.target, b="ctrl-c 2")
    found = stage.play("a", "b", "c", passes=3)
    assert stage.asked == [("a", "1"), ("b", "1"), ("c", "1"), ("b", "2")]
    assert {name: len(runs) for name, runs in found.runs.items()} == {"a": 1, "b": 1, "c": 1}
    assert set(found.missing.values()) == {"ended by Ctrl-C in pass 2 of 3"}
    assert not stage.open, "what was started is ended"


def test_a_run_that_is_not_valid_is_run_once_more_while_its_target_is_up(service: FakeService) -> None:
    stage = Stage(service.target, a="busy 1", b="busy 2-again")
    found = stage.play("a", "b")
    assert stage.asked == [("a", "1"), ("a", "1-again"), ("b", "1"), ("b", "2"), ("a", "2")]
    assert [run.get("again", False) for run in found.runs["a"]] == [True, False]
    assert [line for line in stage.said if "once more" in line] == ["  not valid, once more: a core was full"]
    first, again = stage.settings[:2]
    assert first.salt != again.salt, "no prefix cache answers for the one before"
    assert len(first.salt) == len(again.salt)


def test_who_fails_later_keeps_what_there_is(service: FakeService) -> None:
    stage = Stage(service.target, a=NoRun("Locust ended with status 1"))
    found = stage.play("a", "b")
    assert found.missing == {"a": "Locust ended with status 1"}
    assert {name: len(runs) for name, runs in found.runs.items()} == {"a": 1, "b": 2}


def test_who_cannot_be_reached_is_left_out() -> None:
    found = Stage(Target("http://127.0.0.1:9")).play("a")
    assert "ConnectionRefusedError" in found.missing["a"]


def test_a_target_that_runs_stays_and_what_is_started_gets_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, service: FakeService
) -> None:
    folders: list[Path] = []

    class Fake:
        @staticmethod
        @contextlib.contextmanager
        def started(place: Place) -> Iterator[Target]:
            assert place.folder.is_dir()
            folders.append(place.folder)
            yield service.target

    monkeypatch.setattr("loadtests.compare.passes.STARTABLE", {"plain-vllm": Fake})
    present = contenders(
        {"ours": Target("http://127.0.0.1:1")}, ["plain-vllm"], lambda folder: Place(folder, folder, "m", {})
    )
    with present["ours"]() as target:
        assert target == Target("http://127.0.0.1:1")
    for _ in range(2):
        with present["plain-vllm"]() as target:
            assert target == service.target
    assert len(set(folders)) == 2
    assert not any(folder.exists() for folder in folders)
