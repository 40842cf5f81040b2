"""Which model a spike is for."""

from __future__ import annotations

import pytest

from loadtests import scalable
from loadtests.load.settings import Settings
from loadtests.scalable import most_scalable
from loadtests.target import Target
from loadtests.wire import CallFailed, NotReachable

TARGET = Target("http://127.0.0.1:1", "key", "admin")
ALL = Settings(suite="spike", models=("a", "b", "c"), embedders=("e",), contexts={"a": 512, "b": 1024})


def told(monkeypatch: pytest.MonkeyPatch, **most: int) -> None:
    listed = [{"model_id": name, "max_replicas": count} for name, count in most.items()]
    monkeypatch.setattr(scalable, "get_json", lambda *_, **__: {"data": listed})


def test_it_is_the_one_that_may_have_the_most_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, a=1, b=4, c=2, e=9)
    found = most_scalable(TARGET, ALL)
    assert (found.models, found.embedders, found.contexts) == (("b",), (), {"b": 1024})


def test_of_equals_it_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, a=1, b=1, c=1)
    assert most_scalable(TARGET, ALL).models == ("a",)


def test_one_model_needs_no_choice_and_a_service_without_admin_api_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise NotReachable("nobody there")

    one = Settings(suite="spike", models=("a",))
    monkeypatch.setattr(scalable, "get_json", refuses)
    assert issubclass(NotReachable, CallFailed)
    assert most_scalable(TARGET, one) == one
    assert most_scalable(Target("http://127.0.0.1:1", "key"), ALL) == ALL
    assert most_scalable(TARGET, ALL) == ALL
