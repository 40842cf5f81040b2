"""What the gateway goes by, made of what is written."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.standalone.routes_file import RoutesFile
from gateway.standalone.table import Table, compile_table
from models.catalog.errors import ConfigError


def compiled(*models: dict[str, Any], **environment: str) -> Table:
    return compile_table(RoutesFile.model_validate({"models": models}), environment, "routes.yaml")


def test_a_model_becomes_a_route_with_its_upstreams_as_replicas() -> None:
    table = compiled({
        "model_id": "llama", "aliases": ["gpt"], "adapters": ["legal"], "context_length": 4096, "price": {"request": 1},
        "upstreams": [{"url": "unix:/a.sock", "slots": 4}, {"url": "http://h/v1", "weight": 2, "model": "org/llama"}],
    })  # fmt: skip
    (route,) = table.models
    assert (route.model_id, route.aliases, route.adapters) == ("llama", ("gpt",), ("legal",))
    assert (route.max_model_len, route.price, route.tier) == (4096, {"request": "1"}, "gpu")
    socket, tcp = route.replicas
    assert (socket.endpoint, socket.slots, socket.state, socket.serves_as) == ("unix:/a.sock", 4, "ready", None)
    assert (tcp.endpoint, tcp.weight, tcp.serves_as) == ("http://h", 2.0, "org/llama")


def test_an_upstream_keeps_its_id_wherever_it_stands_in_the_file() -> None:
    a, b = {"url": "http://a"}, {"url": "http://b", "weight": 3}
    before = {
        each.endpoint: each.replica_id for each in compiled({"model_id": "m", "upstreams": [a, b]}).models[0].replicas
    }
    after = compiled({"model_id": "m", "upstreams": [{"url": "http://c"}, {**b, "weight": 1}, a]}).models[0].replicas
    assert before.items() <= {each.endpoint: each.replica_id for each in after}.items()


def test_ids_are_distinct_over_models_and_names_there() -> None:
    upstreams = [{"url": "http://a", "model": "x"}, {"url": "http://a", "model": "y"}, {"url": "http://a"}]
    table = compiled({"model_id": "m", "upstreams": upstreams}, {"model_id": "n", "upstreams": upstreams})
    ids = [each.replica_id for route in table.models for each in route.replicas]
    assert len(set(ids)) == len(ids) == 6


def test_weight_0_lets_an_upstream_finish_and_sends_it_nothing_new() -> None:
    table = compiled({"model_id": "m", "upstreams": [{"url": "http://a", "weight": 0}, {"url": "http://b"}]})
    assert [each.state for each in table.models[0].replicas] == ["draining", "ready"]


def test_headers_come_from_the_file_and_the_environment() -> None:
    upstreams = [{"url": "http://a", "api_key_env": "KEY_A", "headers": {"X-Team": "t"}}, {"url": "http://b"}]
    table = compiled({"model_id": "m", "upstreams": upstreams}, KEY_A="sk-hunter2")
    assert table.headers == {"http://a": b"x-team: t\r\nauthorization: Bearer sk-hunter2\r\n"}
    assert "hunter2" not in repr(table)


@pytest.mark.parametrize("value", [None, "", "sk hunter2", "sk-hunter2\n", "hunter2\r\nx: y", "hunter2é"])
def test_a_key_that_is_not_there_is_named_by_its_field_and_never_shown(value: str | None) -> None:
    upstreams = [{"url": "http://a"}, {"url": "http://b", "api_key_env": "KEY_B"}]
    environment = {} if value is None else {"KEY_B": value}
    with pytest.raises(ConfigError) as refused:
        compiled({"model_id": "m", "upstreams": upstreams}, **environment)
    said = str(refused.value)
    assert said.startswith("routes.yaml: models[0].upstreams[1].api_key_env: ")
    assert "KEY_B" in said
    assert "hunter2" not in said
