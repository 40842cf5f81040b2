"""Many engines are counted when they run, and stopped again whatever comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.coldstart import swarm
from loadtests.coldstart.admin import Admin
from loadtests.coldstart.passes import first_token_s
from loadtests.coldstart.scene import CROWD, CROWD_REPLICAS, swarm_names
from loadtests.coldstart.swarm import engines, replicas
from tests.loadtests.fake_service import FakeModel, FakeService

COUNT = 20


def test_every_engine_is_woken_asked_and_stopped(tmp_path: Path) -> None:
    models = {name: FakeModel() for name in swarm_names(COUNT)}
    with FakeService(models).running() as service:
        each, alone, alive = engines(Admin(service.target), str(tmp_path), COUNT, first_token_s, lambda _: None)
        assert {f"wake {name}" for name in models} | {f"stop {name}" for name in models} == set(service.orders)
    assert alive.values == [COUNT]
    assert alive.met
    assert alone.values[0] > 0
    assert each.values == [0.0]  # no process has this home


def test_engines_that_cannot_all_live_are_a_problem(tmp_path: Path) -> None:
    with FakeService({name: FakeModel() for name in swarm_names(COUNT)}).running() as service:
        service.models["swarm-019"].refusal = (503, "no room")
        figures = engines(Admin(service.target), str(tmp_path), COUNT, first_token_s, lambda _: None)
    assert {figure.problem for figure in figures} == {"503 model_start_failed: no room"}
    assert all(model.state is None for model in service.models.values())


def test_the_crowd_is_ready_when_every_replica_is() -> None:
    with FakeService({CROWD: FakeModel(copies=CROWD_REPLICAS, gap_s=0.001)}).running() as service:
        (figure,) = replicas(Admin(service.target), 2)
        assert service.orders == [f"stop {CROWD}"] * 3
    assert len(figure.values) == 2
    assert figure.problem is None


def test_a_crowd_that_never_gathers_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm, "READY_TIMEOUT_S", 0.1)
    with FakeService({CROWD: FakeModel(copies=3)}).running() as service:
        (figure,) = replicas(Admin(service.target), 1)
    assert figure.problem is not None
    assert figure.problem.startswith("only 3 of 8 replicas were ready")
