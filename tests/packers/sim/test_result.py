from __future__ import annotations

import json

import numpy as np
import pytest

from packers.sim import SimOptions, Waits, simulate
from tests.packers.sim.scenes import model, play, poisson, requests, world


def test_waits_are_quantiles_of_all_requests() -> None:
    waits = Waits.of(np.array([0.0] * 98 + [4.0, 10.0]))
    assert (waits.p50_s, waits.p95_s, waits.max_s) == (0, 0, 10)
    assert waits.mean_s == pytest.approx(0.14)
    assert waits.p99_s == pytest.approx(4.06)
    assert waits.over_5s_share == 0.01
    assert Waits.of(np.empty(0)) == Waits()


def test_it_becomes_json_and_says_what_was_decided_and_why() -> None:
    found = play(requests((0, "a"), (20, "b"), (40, "a")), world([model("a", 6), model("b", 6)]))
    told = json.loads(json.dumps(found.to_json()))
    assert told["waits"]["max_s"] == 10
    assert told["hours"]["provisioned"] == pytest.approx(41 / 3600)
    assert (told["delayed_share"], told["loads"], told["money"]) == (1, 3, 0)
    assert told["gpus"] == [{"gpu": "n/0", "node": "n", "pool": "owned", "memory_bytes": 10**10}]
    assert [one["model"] for one in told["models"]] == ["a", "b"]
    assert told["decisions"]["count"] == found.decisions.count
    assert told["decisions"]["last"][1]["reason"].startswith("a makes room on n/0 for b")
    assert told["decisions"]["causes"]["held"] == 3
    assert "waits_s" not in told


def test_every_model_has_its_own_row_also_those_nobody_called() -> None:
    found = play(requests((0, "a"), (1, "a"), (2, "b")), world([model(name, 3) for name in "abc"]))
    rows = {str(one.model): one for one in found.models}
    assert [rows[name].requests for name in "abc"] == [2, 1, 0]
    assert rows["a"].wait_max_s == 10
    assert rows["a"].load_s == 10
    assert rows["c"].wait_p99_s == 0


def test_only_the_last_reasons_are_kept() -> None:
    trace = poisson("ab", 0.05, 60, seed=3)
    found = play(trace, world([model("a", 6), model("b", 6)]), reasons=5)
    assert len(found.decisions.last) == 5
    assert sum(found.decisions.actions.values()) > 50


def test_waits_are_kept_when_asked_for() -> None:
    trace, there = requests((0, "a")), world([model("a", 6)])
    assert simulate(trace, there).waits_s is None
    assert play(trace, there).waits_s is not None


def test_progress_is_told_up_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    trace = poisson("a", 50.0, 20_000, seed=1)
    simulate(trace, world([model("a", 6)]), progress=lambda done, total: told.append((done, total)))
    assert told == [(8192, 20_000), (16_384, 20_000), (20_000, 20_000)]


def test_a_stopwatch_says_how_long_deciding_took() -> None:
    ticks = iter(range(1000))
    found = simulate(
        requests((0, "a")), world([model("a", 6)]), options=SimOptions(stopwatch=lambda: float(next(ticks)))
    )
    assert found.decide_s == found.decisions.count
    assert simulate(requests((0, "a")), world([model("a", 6)])).decide_s is None


def test_requests_to_ready_replicas_cost_no_decision() -> None:
    found = simulate(poisson("a", 100.0, 30_000, seed=2), world([model("a", 6)]))
    assert found.decisions.count <= 3
    assert found.served == 30_000
