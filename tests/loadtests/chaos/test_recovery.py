from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from loadtests.chaos import recovery
from loadtests.chaos.census import Process, count
from loadtests.chaos.recovery import Struck, await_recovery, conditions, differing, kept
from loadtests.chaos.stage import Stage
from tests.loadtests.chaos.town import FakeCensus, Town

ALL = {"calls", "controller", "replicas", "scaling", "processes"}


@pytest.fixture
def struck(census: FakeCensus, of_kind: Callable[[str], Process]) -> Struck:
    """The controller was killed a moment ago, and another one is there."""
    census.others = [of_kind("controller"), of_kind("redis")]
    victim = Process(99, 1, 1, "controller")
    return Struck(time.monotonic(), time.monotonic(), time.time() - 0.1, (victim,), count(census.look()))


@pytest.fixture
def asked(stage: Stage, struck: Struck) -> Stage:
    """Somebody has got an answer of each kind since."""
    stage.wanted = "cold"
    stage.asking.once("cold", 1, 1)
    stage.fresh.once("steady", 1, 1)
    for callers in (stage.asking, stage.fresh):
        callers.join(10)
    return stage


def missing(stage: Stage, struck: Struck) -> dict[str, str]:
    return {name: text for name, check in conditions(stage, struck).items() if (text := check())}


def test_all_is_well_again(asked: Stage, struck: Struck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "STABLE_S", 0.05)
    recovered = await_recovery(asked, struck, within_s=10.0)
    assert recovered.whole
    assert recovered.after_s.keys() == ALL
    assert recovered.missing == {}


def test_what_stays_away_is_named_and_the_wait_has_an_end(stage: Stage, struck: Struck) -> None:
    stage.wanted = "cold"
    stage.fresh.once("steady", 1, 1)
    recovered = await_recovery(stage, struck, within_s=0.1)
    assert not recovered.whole
    assert recovered.missing == {"scaling": "nobody has got an answer of cold"}


def test_a_call_that_was_answered_before_it_says_nothing(stage: Stage, struck: Struck) -> None:
    stage.fresh.once("steady", 1, 1)
    stage.fresh.join(10)
    later = Struck(time.monotonic(), time.monotonic(), time.time() - 0.1, struck.victims, struck.before)
    assert missing(stage, later)["calls"] == "no call of steady was answered after it"


def test_a_service_that_does_not_answer_is_not_recovered(asked: Stage, struck: Struck, town: Town) -> None:
    town.answers["/admin/v1/status"] = None
    recovered = await_recovery(asked, struck, within_s=0.1)
    assert recovered.after_s["controller"] is None
    assert recovered.missing.keys() == {"controller"}


@pytest.mark.parametrize(
    ("controller", "text"),
    [
        (None, "no controller has written anything"),
        ({"pid": 99}, "the old controller's state is all there is"),
        ({"pid": 1, "updated_unix_s": 0.0, "age_s": 1.0}, "the controller wrote 1.0 s ago for the last time"),
        ({"pid": 1, "updated_unix_s": 9e9, "age_s": 7.0}, "the controller wrote 7.0 s ago for the last time"),
    ],
)
def test_the_controller_is_back_when_another_one_writes(
    asked: Stage, struck: Struck, town: Town, controller: Any, text: str
) -> None:
    town.answers["/admin/v1/status"] = {"controller": controller}
    assert missing(asked, struck) == {"controller": text}


def test_replicas_are_back_when_their_processes_are(
    asked: Stage, struck: Struck, town: Town, census: FakeCensus
) -> None:
    census.hidden = {"steady-1"}  # on record, but dead
    assert missing(asked, struck) == {"replicas": "1 of 2 replicas of steady are ready"}
    census.hidden = set()
    town.replicas["steady-2"] = "starting"
    assert missing(asked, struck) == {"replicas": "1 of 2 replicas of steady are ready"}


def test_an_engine_that_was_hit_does_not_count_while_it_is_still_on_record(
    asked: Stage, struck: Struck, town: Town
) -> None:
    hung = Process(town.pid("steady-1"), 0, 1, "engine", "steady-1")
    after = Struck(struck.at_s, struck.over_s, struck.over_unix_s, (hung,), struck.before)
    assert missing(asked, after) == {"replicas": "1 of 2 replicas of steady are ready"}
    town.replicas["steady-3"] = "ready"
    assert missing(asked, after)["replicas"].startswith("process ")


def test_an_engine_in_nobodys_books_is_left_over(asked: Stage, struck: Struck, census: FakeCensus) -> None:
    census.others.append(Process(6_000_001, 0, 1, "engine", "cold-77"))
    assert missing(asked, struck) == {"processes": "the engine of cold-77 is in nobody's books"}


def test_parts_are_counted_by_their_kind() -> None:
    before = {"redis": 1, "raylet": 1, "zygote": 3, "ray's own": 3, "engine": 2}
    assert differing(Counter(before), before) == ""
    assert differing(Counter(before) - Counter(redis=1), before) == "0 processes of kind redis, there were 1"
    assert differing(Counter(before) + Counter(raylet=1), before) == "2 processes of kind raylet, there were 1"
    assert differing(Counter(before) + Counter(engine=5), before) == ""


def test_spares_may_be_fewer_for_a_while_and_ever_more_they_may_not_be() -> None:
    before = {"zygote": 3}
    assert differing(Counter(zygote=2), before) == ""
    assert differing(Counter(zygote=2), before, spares=True) == "2 processes of kind zygote, there were 3"
    assert differing(Counter(zygote=6), before, spares=True) == ""
    assert differing(Counter(zygote=7), before) == "7 processes of kind zygote, there were 3"


def test_replicas_that_should_have_lived_on() -> None:
    alive = [Process(1, 0, 1, "engine", "steady-1")]
    before = {"steady-1": 1, "steady-2": 2, "cold-1": 3}
    assert kept(before, ["cold-1"], alive) == ["steady-2"]
