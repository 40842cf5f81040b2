"""The route table in memory, suspicion, and the choice of a replica."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import LONGEST_SUSPICION_S, Routes, pick
from models.store.records import ModelRoute, ReplicaRoute, RouteTable
from packers.types import ReplicaId

A, B = ReplicaId("a"), ReplicaId("b")


def replica(name: str, state: str = "ready") -> ReplicaRoute:
    return ReplicaRoute(replica_id=name, endpoint=f"unix:/{name}", state=state)


def table(version: int, *models: ModelRoute) -> RouteTable:
    return RouteTable(version=version, models=models)


def routes_of(*models: ModelRoute) -> Routes:
    routes = Routes()
    assert routes.offer(table(1, *models))
    return routes


def names(routes: Routes, now_s: float = 0.0) -> list[str]:
    route = routes.find("m")
    assert route is not None
    return [candidate.replica_id for candidate in routes.candidates(route, now_s)]


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


def test_only_ready_replicas_get_requests() -> None:
    routes = routes_of(ModelRoute(model_id="m", replicas=(replica("a", "draining"), replica("b"))))
    assert names(routes) == ["b"]
    assert routes.is_draining(A)
    assert not routes.is_draining(B)
    assert routes.is_draining(ReplicaId("gone"))


def test_a_suspect_is_left_alone_for_a_while_and_longer_each_time() -> None:
    routes = routes_of(ModelRoute(model_id="m", replicas=(replica("a"),)))
    lengths = []
    now_s = 100.0
    for _ in range(6):
        routes.suspect(A, now_s)
        began_s = now_s
        while not names(routes, now_s):
            now_s += 0.25
        lengths.append(now_s - began_s)
    assert lengths == [1.0, 2.0, 4.0, 8.0, LONGEST_SUSPICION_S, LONGEST_SUSPICION_S]


def test_an_answer_ends_the_suspicion() -> None:
    routes = routes_of(ModelRoute(model_id="m", replicas=(replica("a"),)))
    routes.suspect(A, 0.0)
    assert names(routes, 0.5) == []
    routes.trust(A)
    assert names(routes, 0.5) == ["a"]
    routes.suspect(A, 1.0)
    assert names(routes, 2.0) == ["a"], "and it starts from the first second again"


def test_suspicion_is_kept_over_tables_that_still_list_the_replica_and_forgotten_with_it() -> None:
    one, other = ModelRoute(model_id="m", replicas=(replica("a"),)), ModelRoute(model_id="m")
    routes = routes_of(one)
    routes.suspect(A, 0.0)
    routes.offer(table(2, one))
    assert names(routes, 0.5) == []
    routes.offer(table(3, other))
    routes.offer(table(4, one))
    assert names(routes, 0.5) == ["a"]


def test_endpoints_are_those_of_every_listed_replica() -> None:
    routes = routes_of(ModelRoute(model_id="m", replicas=(replica("a"), replica("b", "draining"))))
    assert routes.endpoints == {"unix:/a", "unix:/b"}


def test_nobody_to_pick() -> None:
    assert pick([], lambda _: 0) is None


def test_the_first_of_equals_is_picked_so_that_the_others_fall_idle() -> None:
    three = [replica(name) for name in "abc"]
    assert pick(three, lambda _: 2) == three[0]
    assert pick(three, lambda name: 2 if name == "a" else 1) == three[1]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_the_picked_replica_is_never_busier_than_another(loads: list[int]) -> None:
    there = [replica(str(number)) for number in range(len(loads))]
    found = pick(there, lambda name: loads[int(name)])
    assert found is not None
    assert loads[int(found.replica_id)] == min(loads)
