from __future__ import annotations

import pytest

from loadtests.chaos import moments
from loadtests.chaos.calls import How
from loadtests.chaos.moments import MOMENTS, NotBegun
from loadtests.chaos.scene import model_of
from loadtests.chaos.stage import Stage
from tests.loadtests.chaos.town import FakeCensus, Town


def play(stage: Stage, name: str) -> None:
    MOMENTS[name].prepare(stage)
    MOMENTS[name].begin(stage)
    for callers in stage.everybody:
        callers.join(10)


def test_idle_only_what_always_runs_is_there_and_nobody_calls(town: Town, stage: Stage) -> None:
    town.replicas |= {"cold-9": "asleep", "big-b-9": "ready"}
    play(stage, "idle")
    assert town.orders == ["stop cold", "stop big-b"]
    assert stage.wanted == "cold"
    assert stage.engine is not None
    assert model_of(stage.engine.replica) == "steady"
    assert stage.calls() == []


def test_under_load_a_crowd_is_being_answered(stage: Stage) -> None:
    play(stage, "load")
    assert len(stage.steady.answered()) >= moments.WARM_CALLS
    assert stage.engine is not None


def test_in_mid_start_it_begins_once_an_engine_is_there(town: Town, stage: Stage) -> None:
    play(stage, "start")
    assert stage.engine is not None
    assert stage.engine.replica == "cold-1"
    assert [call.how for call in stage.waiting.calls] == [How.OK] * moments.WAITING
    assert stage.steady.calls, "what serves is called meanwhile"


def test_in_mid_eviction_another_model_makes_room(town: Town, stage: Stage) -> None:
    town.evicts = "big-b-2"
    play(stage, "evict")
    assert town.orders == ["wake big-a", "wake big-b"]
    assert (stage.wanted, stage.evicted) == ("big-c", "big-b")
    assert stage.engine is not None
    assert stage.engine.replica == "big-b-2"


def test_what_does_not_begin_says_so(
    town: Town, stage: Stage, census: FakeCensus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "BEGIN_TIMEOUT_S", 0.1)
    census.hidden = {"cold-1"}
    MOMENTS["start"].prepare(stage)
    with pytest.raises(NotBegun, match="until an engine of cold is made"):
        MOMENTS["start"].begin(stage)
    town.replicas = {"steady-1": "ready"}
    with pytest.raises(NotBegun, match="all of its replicas"):
        MOMENTS["idle"].prepare(stage)
