"""What the service says of itself, over time."""

from __future__ import annotations

from loadtests.generator.watch import ServiceWatch
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService


def test_replicas_and_tiers_over_time() -> None:
    models = {"a": FakeModel(state="ready", copies=2), "b": FakeModel()}
    with FakeService(models).running() as service:
        watch = ServiceWatch(service.target)
        watch.look(0.5)
        models["a"].state, models["b"].state = "asleep", "ready"
        watch.look(1.0)
    found = watch.document()
    assert found["at_s"] == [0.5, 1.0]
    assert found["models"]["a"]["ready"] == [2, 0]
    assert found["models"]["a"]["asleep"] == [0, 2]
    assert found["models"]["b"]["tier"] == ["disk", "gpu"]
    assert found["models"]["b"]["held"] == [0, 0]


def test_the_gateways_memory_is_looked_at_once_a_second() -> None:
    service = FakeService({"a": FakeModel(state="ready")})
    with service.running():
        watch = ServiceWatch(service.target)
        for at_s, held_bytes in ((0.0, 100), (0.25, 200), (1.0, 300), (1.9, 400), (2.1, 500)):
            service.resident_bytes = held_bytes
            watch.look(at_s)
    assert watch.document()["gateway"] == {"at_s": [0.0, 1.0, 2.1], "resident_bytes": [100, 300, 500]}
    assert len(watch.document()["at_s"]) == 5


def test_a_service_that_does_not_tell_its_memory_is_watched_all_the_same() -> None:
    with FakeService({"a": FakeModel(state="ready")}).running() as service:
        watch = ServiceWatch(service.target)
        watch.look(0.0)
    found = watch.document()
    assert found["gateway"] == {"at_s": [], "resident_bytes": []}
    assert (found["models"]["a"]["ready"], watch.missed) == ([1], 0)


def test_a_model_that_comes_later_or_goes_has_gaps() -> None:
    models = {"a": FakeModel(state="ready")}
    with FakeService(models).running() as service:
        watch = ServiceWatch(service.target)
        watch.look(0.0)
        models["b"] = FakeModel(state="ready")
        del models["a"]
        watch.look(1.0)
    found = watch.document()
    assert (found["models"]["a"]["ready"], found["models"]["b"]["ready"]) == ([1, None], [None, 1])


def test_only_the_models_that_are_loaded() -> None:
    with FakeService({"a": FakeModel(), "b": FakeModel()}).running() as service:
        watch = ServiceWatch(service.target, frozenset({"b"}))
        watch.look(0.0)
        found = watch.document()
    assert set(found["models"]) == {"b"}


def test_a_service_that_tells_nothing_is_asked_once() -> None:
    with FakeService({}).running() as service:
        watch = ServiceWatch(Target(service.target.url, admin_key="wrong"))
        watch.look(0.0)
        watch.look(1.0)
        assert watch.useless
    assert watch.missed == 1
    assert "401" in str(watch.document())


def test_a_service_that_falls_silent_leaves_a_gap() -> None:
    with FakeService({"a": FakeModel()}).running() as service:
        watch = ServiceWatch(service.target)
        watch.look(0.0)
    watch.look(1.0)
    found = watch.document()
    assert (found["at_s"], found["missed"]) == ([0.0], 1)
