"""Models that go, and names that wander, while requests are held and served."""

from __future__ import annotations

import pytest

from gateway.errors import ModelNotFound, Unavailable
from models.store.records import ModelRoute, ReplicaRoute
from tests.gateway.admit.scene import Scene, model


def other(model_id: str, replica: str | None, *aliases: str) -> ModelRoute:
    replicas = (ReplicaRoute(replica_id=replica, endpoint=f"unix:/{replica}", state="ready"),) if replica else ()
    return ModelRoute(model_id=model_id, aliases=aliases, replicas=replicas)


def test_what_runs_on_a_model_that_is_removed_goes_on_and_nothing_new_comes() -> None:
    scene = Scene()
    scene.table(model("a"))
    running = scene.ask()
    assert running.at == "a"
    scene.table(other("else", "b"))
    scene.turn()
    assert isinstance(scene.ask().error, ModelNotFound)
    assert scene.demand.report("w", 2, 0.0).replicas == {"a": 1}, "the controller waits for it"
    scene.end(running)
    assert scene.demand.report("w", 2, 0.0).replicas == {}


def test_an_alias_moves_at_once_and_takes_nothing_with_it_that_has_begun() -> None:
    scene = Scene()
    scene.table(other("old", "a", "best"), other("new", "b"))
    running = scene.ask("best")
    scene.table(other("old", "a"), other("new", "b", "best"))
    scene.turn()
    assert (running.at, scene.ask("best").at, scene.ask("old").at) == ("a", "b", "a")


def test_whoever_waits_by_an_alias_waits_for_the_model_it_meant_then() -> None:
    scene = Scene()
    scene.table(other("old", None, "best"), other("new", None))
    waiting = scene.ask("best")
    scene.table(other("old", None), other("new", "b", "best"))
    scene.turn()
    assert waiting.waits
    scene.table(other("old", "a"), other("new", "b", "best"))
    scene.turn()
    assert waiting.at == "a"


@pytest.mark.parametrize("ready", ["b", None])
def test_the_name_of_a_model_that_is_gone_becomes_an_alias_of_another(ready: str | None) -> None:
    """Whoever waited for the model that is gone is sent to ask again at once: the name is served."""
    scene = Scene()
    scene.table(other("old", None), other("new", ready))
    waiting = scene.ask("old")
    assert waiting.waits
    scene.table(other("new", ready, "old"))
    scene.turn()
    assert isinstance(waiting.error, Unavailable)
    assert ("retry-after", "1") in waiting.error.headers()
    assert scene.held == 0
    again = scene.ask("old")
    assert (again.at == "b") if ready else again.waits


def test_a_model_that_comes_back_under_its_name_begins_anew() -> None:
    scene = Scene()
    scene.table(model("a"))
    running = scene.ask()
    scene.table()
    scene.turn()
    scene.table(model("b"))
    scene.turn()
    assert (running.at, scene.ask().at) == ("a", "b")
    scene.end(running)
    assert scene.demand.report("w", 3, 0.0).replicas == {"b": 1}
