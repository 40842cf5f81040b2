"""The route table in memory."""

from __future__ import annotations

from gateway.routing import Routes
from models.store.records import ModelRoute, ReplicaRoute, RouteTable


def replica(name: str, state: str = "ready") -> ReplicaRoute:
    return ReplicaRoute(replica_id=name, endpoint=f"unix:/{name}", state=state)


def table(version: int, *models: ModelRoute) -> RouteTable:
    return RouteTable(version=version, models=models)


def routes_of(*models: ModelRoute) -> Routes:
    routes = Routes()
    assert routes.offer(table(1, *models))
    return routes


def test_a_model_is_found_by_its_id_and_its_aliases() -> None:
    routes = routes_of(ModelRoute(model_id="org/m", aliases=("m", "latest")), ModelRoute(model_id="n"))
    for name in ("org/m", "m", "latest"):
        found = routes.find(name)
        assert found is not None
        assert found.model_id == "org/m"
    assert routes.find("other") is None


def test_an_id_wins_over_another_models_alias() -> None:
    routes = routes_of(ModelRoute(model_id="n"), ModelRoute(model_id="m", aliases=("n",)))
    found = routes.find("n")
    assert found is not None
    assert found.model_id == "n"


def test_an_adapter_is_found_by_its_name_unless_a_model_has_that_name() -> None:
    tuned = ModelRoute(model_id="m", adapters=("tuned", "n", "known"))
    routes = routes_of(tuned, ModelRoute(model_id="n", aliases=("known",)))
    found = {name: route.model_id for name in ("tuned", "n", "known") if (route := routes.find(name))}
    assert found == {"tuned": "m", "n": "n", "known": "n"}


def test_before_the_first_table_nothing_is_known() -> None:
    routes = Routes()
    assert not routes.loaded
    assert (routes.version, routes.models, routes.find("m")) == (0, (), None)


def test_the_same_version_is_not_news() -> None:
    routes = routes_of(ModelRoute(model_id="m"))
    assert not routes.offer(table(1, ModelRoute(model_id="n")))
    assert routes.find("n") is None


def test_an_older_table_is_a_stragglers_and_is_ignored() -> None:
    routes = Routes()
    routes.offer(table(5, ModelRoute(model_id="m")))
    assert not routes.offer(table(4))
    assert routes.offer(table(6, ModelRoute(model_id="n")))
    assert not routes.offer(table(4)), "seen before, but not twice in a row"
    assert routes.version == 6


def test_an_older_table_that_stays_means_that_counting_began_anew() -> None:
    routes = Routes()
    routes.offer(table(500, ModelRoute(model_id="m")))
    assert not routes.offer(table(1, ModelRoute(model_id="n")))
    assert routes.offer(table(1, ModelRoute(model_id="n")))
    assert (routes.version, routes.find("m")) == (1, None)


def test_endpoints_are_those_of_every_listed_replica() -> None:
    routes = routes_of(ModelRoute(model_id="m", replicas=(replica("a"), replica("b", "draining"))))
    assert routes.endpoints == {"unix:/a", "unix:/b"}
