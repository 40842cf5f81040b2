from __future__ import annotations

from typing import cast

import pytest

from loadtests.chaos.census import Census, Process
from loadtests.chaos.watch import Watch
from tests.e2e.service import until
from tests.loadtests.chaos.results import ledger
from tests.loadtests.chaos.town import FakeCensus, Town


@pytest.fixture
def watch(town: Town, census: FakeCensus, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Its processes are alive."""
    monkeypatch.setattr(Process, "alive", lambda _: True)
    return Watch(town.target, cast(Census, census))


def test_it_looks_again_and_again_until_the_block_ends(watch: Watch) -> None:
    with watch:
        until(lambda: watch.seen.ledgers > 3 and watch.seen.looks > 3)
    assert watch.seen.wrong == {}
    assert watch.seen.unanswered == 0
    document = watch.seen.document()
    assert (document["ledgers"], document["looks_at_processes"]) == (watch.seen.ledgers, watch.seen.looks)


def test_while_nobody_answers_the_processes_are_looked_at_all_the_same(watch: Watch, town: Town) -> None:
    town.answers["/admin/v1/ledger"] = None
    with watch:
        until(lambda: watch.seen.unanswered > 1 and watch.seen.looks > 1)
    assert watch.seen.ledgers == 0


def test_a_ledger_that_does_not_hold(watch: Watch, town: Town) -> None:
    town.answers["/admin/v1/ledger"] = ledger(("steady-1", 0, 900), ("steady-2", 0, 900))
    watch.look_at_ledger()
    watch.look_at_ledger()
    assert watch.seen.wrong == {"1800 bytes of n/gpu-0 are reserved, it has 1000": 2}


def test_a_state_that_goes_back(watch: Watch, town: Town) -> None:
    for seq in (7, 8, 5):
        town.answers["/admin/v1/ledger"] = ledger(seq=seq)
        watch.look_at_ledger()
    assert watch.seen.wrong == {"the state went back by 3 steps": 1}


def test_two_engines_of_one_replica(watch: Watch, census: FakeCensus) -> None:
    census.others.append(Process(6_000_001, 0, 1, "engine", "steady-1"))
    watch.look_at_processes()
    assert "2 engines of steady-1 live at once" in watch.seen.wrong


def test_an_engine_without_a_place_on_the_ledger(watch: Watch, census: FakeCensus) -> None:
    census.others.append(Process(6_000_001, 0, 1, "engine", "cold-7"))
    watch.look_at_processes()
    watch.look_at_ledger()
    assert watch.seen.wrong == {"the engine of cold-7 runs without a place on the ledger": 1}


def test_one_that_has_ended_meanwhile_needs_none(
    watch: Watch, census: FakeCensus, monkeypatch: pytest.MonkeyPatch
) -> None:
    census.others.append(Process(6_000_001, 0, 1, "engine", "cold-7"))
    watch.look_at_processes()
    monkeypatch.setattr(Process, "alive", lambda _: False)
    watch.look_at_ledger()
    assert watch.seen.wrong == {}


def test_one_may_live_beside_a_replica_that_drains_and_makes_room_for_it(
    watch: Watch, town: Town, census: FakeCensus
) -> None:
    town.replicas["steady-3"] = "starting"
    watch.look_at_processes()
    assert watch.seen.wrong == {"3 engines of steady live at once, which may have 2": 1}
    town.replicas["steady-1"] = "draining"
    watch.look_at_processes()
    assert sum(watch.seen.wrong.values()) == 1
    town.answers["/admin/v1/replicas"] = None  # nobody can say so
    watch.look_at_processes()
    assert sum(watch.seen.wrong.values()) == 2
