"""The one that leads a run: when it is over, what it writes, and what it is told of orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loadtests.generator.leader import PATIENCE_S, Leader
from loadtests.generator.worker import Batch
from loadtests.load.plan import Arrival, Phase, Plan
from loadtests.load.settings import Settings
from loadtests.load.wish import Wish
from loadtests.outcome.document import read
from loadtests.outcome.health import WorkerHealth
from loadtests.outcome.rows import rows
from loadtests.outcome.slo import NO_SLO
from loadtests.target import Target
from tests.loadtests.outcome.made import row

END_S = 4.0
PLAN = Plan((Phase("all", 0.0, END_S),), END_S, tuple(Arrival(at, Wish("m")) for at in (0.0, 1.0, 2.0)))


@dataclass
class Led:
    """A run at a moment of the test's choice, against nobody."""

    run_s: float = 0.0
    workers: int = 2
    shares_a_key: bool = False
    begun_unix_s: float = 1000.0
    plan: Plan = PLAN
    settings: Settings = field(default_factory=lambda: Settings(suite="steady", models=("m",), drain_s=3.0))
    target: Target = field(default_factory=lambda: Target("http://127.0.0.1:9"))


@pytest.fixture
def led() -> Led:
    return Led()


@pytest.fixture
def leader(led: Led, tmp_path: Path) -> Leader:
    return Leader(led, NO_SLO, tmp_path / "out", True, None)


def told(number: int, sent: int = 0, done: bool = True, **health: Any) -> Batch:
    rows_of_it = [row(1000.0 * at, worker=number) for at in range(sent)]
    return Batch(rows_of_it, [], WorkerHealth(number, planned=sent, sent=sent, **health), done)


def written(tmp_path: Path) -> dict[str, Any]:
    return read(tmp_path / "out" / "run.json")


def test_it_is_over_when_every_worker_has_told_its_end(leader: Leader) -> None:
    assert not leader.complete()
    leader.take(told(0))
    leader.take(told(1, done=False))
    assert not leader.complete()
    leader.take(told(1))
    assert leader.complete()


def test_who_tells_nothing_is_not_waited_for_for_ever(leader: Leader, led: Led) -> None:
    leader.take(told(0))
    led.run_s = END_S + led.settings.drain_s + PATIENCE_S - 0.1
    assert not leader.complete()
    led.run_s += 0.2
    assert leader.complete()


def test_what_all_workers_saw_is_in_the_document_in_the_order_in_which_it_was_due(
    leader: Leader, led: Led, tmp_path: Path
) -> None:
    leader.take(told(1, 1))
    leader.take(told(0, 2))
    led.run_s = 9.0
    leader.end()
    made = written(tmp_path)
    assert [(each.worker, each.scheduled_us) for each in rows(made["requests"])] == [(1, 0), (0, 0), (0, 1_000_000)]
    assert (made["duration_s"], made["started_unix_s"]) == (END_S, 1000.0)
    assert (made["generator"]["valid"], made["generator"]["lost_workers"]) == (True, 0)


def test_a_worker_that_was_lost_is_in_the_document(leader: Leader, led: Led, tmp_path: Path) -> None:
    leader.take(told(0, 2))
    leader.take(told(1, 1, done=False))
    led.run_s = 99.0
    leader.end()
    generator = written(tmp_path)["generator"]
    assert (generator["valid"], generator["lost_workers"]) == (False, 1)


def test_a_run_that_is_stopped_early_lasted_as_long_as_it_did(leader: Leader, led: Led, tmp_path: Path) -> None:
    led.run_s = 1.5
    leader.end()
    assert written(tmp_path)["duration_s"] == 1.5


def test_it_writes_once(leader: Leader, led: Led, tmp_path: Path) -> None:
    leader.take(told(0, 1))
    leader.end()
    leader.take(told(1, 2))
    leader.end()
    assert written(tmp_path)["summary"]["requests"] == 1


def test_without_a_folder_nothing_is_written(led: Led, tmp_path: Path) -> None:
    Leader(led, NO_SLO, None, True, None).end()
    assert list(tmp_path.iterdir()) == []


def test_what_happened_is_marked_at_its_time(leader: Leader, led: Led, tmp_path: Path) -> None:
    led.run_s = -0.2  # before the beginning
    leader.mark("one key")
    led.run_s = 1.25
    leader.mark("kill", "engine, process 7")
    leader.end()
    assert written(tmp_path)["marks"] == [
        {"at_s": 0.0, "what": "one key", "detail": ""},
        {"at_s": 1.25, "what": "kill", "detail": "engine, process 7"},
    ]


def test_another_run_from_locusts_page_begins_with_nothing(leader: Leader, led: Led, tmp_path: Path) -> None:
    leader.take(told(0, 2))
    leader.end()
    leader.begin()
    assert not leader.complete()
    leader.take(told(0, 1))
    leader.end()
    assert written(tmp_path)["summary"]["requests"] == 1


def test_two_tenants_with_one_key_are_told(leader: Leader, led: Led, tmp_path: Path) -> None:
    led.shares_a_key = True
    leader.begin()
    leader.end()
    (mark,) = written(tmp_path)["marks"]
    assert (mark["what"], "the same key" in mark["detail"]) == ("one key", True)
