"""Replicas of other nodes: reached at their address with the cluster's key, or not at all."""

from __future__ import annotations

from pathlib import Path

from gateway.neighbours import Neighbours
from gateway.routing import Routes
from models import secret
from models.fleet.node_file import NodeFile
from models.home import Home
from models.store.records import ModelRoute, ReplicaRoute, RouteTable

SECRET = "s" * 64
LINE = f"x-roundhouse-key: {secret.key(SECRET, 'engines')}\r\n".encode()


def replica(name: str, node: str = "here", address: str | None = "http://10.0.0.2:4000") -> ReplicaRoute:
    return ReplicaRoute(replica_id=name, endpoint=f"unix:/{name}", state="ready", node=node, address=address)


def model(*replicas: ReplicaRoute, name: str = "m") -> ModelRoute:
    return ModelRoute(model_id=name, replicas=replicas)


def table(*models: ModelRoute, version: int = 1) -> RouteTable:
    return RouteTable(version=version, models=models)


def neighbours(folder: Path, text: str | None = SECRET) -> Neighbours:
    if text is not None:
        (folder / "secret").write_text(text)
    return Neighbours("here", folder / "secret")


def endpoints(seen: RouteTable) -> list[str]:
    return [each.endpoint for route in seen.models for each in route.replicas]


def test_a_replica_of_this_node_keeps_its_socket_and_needs_no_key(tmp_path: Path) -> None:
    near = neighbours(tmp_path, None)
    written = table(model(replica("a"), replica("b", node="")))
    seen = near.seen(written)
    assert endpoints(seen) == ["unix:/a", "unix:/b"]
    assert seen.models[0] is written.models[0]
    assert (near.headers, near.problem) == ({}, "")


def test_one_of_another_node_is_called_at_its_address_with_the_key(tmp_path: Path) -> None:
    near = neighbours(tmp_path)
    seen = near.seen(table(model(replica("a"), replica("b", "there"))))
    assert endpoints(seen) == ["unix:/a", "http://10.0.0.2:4000"]
    assert near.headers == {"http://10.0.0.2:4000": LINE}


def test_one_that_serves_its_own_node_alone_is_left_out(tmp_path: Path) -> None:
    near = neighbours(tmp_path)
    assert endpoints(near.seen(table(model(replica("a", "there", address=None))))) == []
    assert near.headers == {}


def test_without_the_secret_others_are_left_out_and_it_says_which_file_is_missing(tmp_path: Path) -> None:
    near = neighbours(tmp_path, None)
    written = table(model(replica("a"), replica("b", "there")))
    assert endpoints(near.seen(written)) == ["unix:/a"]
    assert str(tmp_path / "secret") in near.problem
    assert "copy it from the head" in near.problem
    (tmp_path / "secret").write_text(SECRET)
    assert endpoints(near.seen(written)) == ["unix:/a", "http://10.0.0.2:4000"]
    assert near.problem == ""


def test_a_rotated_secret_is_taken_with_the_next_table_and_a_lost_one_is_remembered(tmp_path: Path) -> None:
    near = neighbours(tmp_path)
    routes = model(replica("b", "there"))
    near.seen(table(routes))
    (tmp_path / "secret").write_text("t" * 64)
    near.seen(table(routes, version=2))
    rotated = f"x-roundhouse-key: {secret.key('t' * 64, 'engines')}\r\n".encode()
    assert near.headers == {"http://10.0.0.2:4000": rotated}
    (tmp_path / "secret").unlink()
    near.seen(table(routes, version=3))
    assert (near.headers, near.problem) == ({"http://10.0.0.2:4000": rotated}, "")


def test_the_problem_goes_with_the_last_replica_that_it_concerned(tmp_path: Path) -> None:
    near = neighbours(tmp_path, "too short")
    near.seen(table(model(replica("b", "there"))))
    assert "9 characters" in near.problem
    near.seen(table(model(replica("a"))))
    assert near.problem == ""


def test_what_did_not_change_is_the_same_object_in_the_next_table(tmp_path: Path) -> None:
    near = neighbours(tmp_path)
    steady, changing = model(replica("a", "there")), model(replica("b", "there"), name="n")
    first = near.seen(table(steady, changing))
    again = near.seen(table(steady, model(replica("b"), name="n"), version=2))
    assert again.models[0] is first.models[0]
    assert endpoints(again) == ["http://10.0.0.2:4000", "unix:/b"]
    assert list(near.headers) == ["http://10.0.0.2:4000"]


def test_headers_of_replicas_that_are_gone_go(tmp_path: Path) -> None:
    near = neighbours(tmp_path)
    near.seen(table(model(replica("a", "there"))))
    near.seen(table(model(replica("c", "there", "http://10.0.0.3:1"))))
    assert list(near.headers) == ["http://10.0.0.3:1"]


def test_its_name_is_the_one_that_it_has_joined_with(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("ROUNDHOUSE_NODE", "by-environment")
    home = Home(tmp_path)
    assert endpoints(Neighbours.of(home).seen(table(model(replica("a", "by-environment"))))) == ["unix:/a"]
    NodeFile(name="joined", address="10.0.0.9").write(home.node_file)
    assert endpoints(Neighbours.of(home).seen(table(model(replica("a", "joined"))))) == ["unix:/a"]


def test_routes_hold_what_is_seen_from_here(tmp_path: Path) -> None:
    routes = Routes(neighbours(tmp_path))
    assert routes.offer(table(model(replica("a", "there"), replica("b"))))
    assert routes.endpoints == {"http://10.0.0.2:4000", "unix:/b"}
    found = routes.find("m")
    assert found is not None
    assert found.replicas[0].endpoint == "http://10.0.0.2:4000"


def test_the_standalone_gateway_knows_of_no_nodes() -> None:
    routes = Routes()
    assert routes.offer(table(model(replica("a", "wherever"))))
    assert routes.endpoints == {"unix:/a"}
