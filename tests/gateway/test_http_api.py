"""What can be read without touching an engine: models, probes, metrics, the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.endpoints import ENDPOINTS, BodyKind
from tests.gateway.multipart import CONTENT_TYPE, form, part
from tests.gateway.world import World, chat_body

pytestmark = pytest.mark.anyio
PRICE = {"input_token": "0.0000002", "gpu_second": "0.0004"}


async def get(world: World, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with world.client() as session, session.get(path, headers=headers or {}) as answer:
        return answer.status, await (answer.json() if "json" in answer.headers["content-type"] else answer.text())


async def test_models_are_listed_whether_they_run_or_not(world: World) -> None:
    await world.engine("m-1")
    await world.route(
        world.model("m", "m-1", aliases=("small", "m:latest"), max_model_len=1024, created_unix_s=5, price=PRICE),
        world.model("org/n", owned_by="somebody"),
    )
    status, body = await get(world, "/v1/models", world.headers)
    assert (status, body["object"]) == (200, "list")
    assert body["data"] == [
        {
            "id": "m", "object": "model", "created": 5, "owned_by": "roundhouse", "tier": "gpu", "runtime": "vllm",
            "max_model_len": 1024, "aliases": ["small", "m:latest"], "capabilities": [], "parent": None, "price": PRICE,
        },
        {
            "id": "org/n", "object": "model", "created": 0, "owned_by": "somebody", "tier": "disk", "runtime": "vllm",
            "max_model_len": None, "aliases": [], "capabilities": [], "parent": None, "price": {},
        },
    ]  # fmt: skip


async def test_adapters_are_listed_after_their_model_and_called_by_their_own_names(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1", aliases=("small",), adapters=("org/pirate", "poet"), price=PRICE))
    _, body = await get(world, "/v1/models", world.headers)
    assert [(shown["id"], shown["parent"]) for shown in body["data"]] == [
        ("m", None),
        ("org/pirate", "m"),
        ("poet", "m"),
    ]
    _, shown = await get(world, "/v1/models/org/pirate", world.headers)
    assert (shown["id"], shown["parent"], shown["aliases"], shown["price"]) == ("org/pirate", "m", [], PRICE)
    async with world.client() as session:
        assert (await world.chat(session, "org/pirate"))[0] == 200
    assert engine.seen[0].json["model"] == "org/pirate", "the engine tells them apart by this"
    _, text = await get(world, "/metrics")
    assert 'endpoint="chat.completions",model="m"' in text


async def test_a_model_is_retrieved_by_id_and_alias_also_with_slashes(world: World) -> None:
    await world.route(world.model("org/team/n", aliases=("short",)))
    for name in ("org/team/n", "org%2Fteam%2Fn", "short"):
        status, body = await get(world, f"/v1/models/{name}", world.headers)
        assert (status, body["id"]) == (200, "org/team/n")
    for name in ("nope", "org/team", "", "org/team/n/"):
        status, body = await get(world, f"/v1/models/{name}", world.headers)
        assert (status, body["error"]["code"]) == (404, "model_not_found")


async def test_alive_from_the_first_moment_ready_when_the_models_are_known(world: World) -> None:
    assert await get(world, "/health") == (200, {"status": "ok"})
    status, body = await get(world, "/readyz")
    assert (status, body["status"]) == (503, "starting")
    await world.route(world.model("m"))
    status, body = await get(world, "/readyz")
    assert (status, body) == (200, {"status": "ready", "routes_version": 1, "models": 1, "redis": "up"})
    assert (await get(world, "/version"))[1]["version"]


async def test_metrics_tell_of_requests_and_of_no_key_and_no_made_up_name(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        await world.chat(session, "m")
        await world.chat(session, "made-up-name")
    _, text = await get(world, "/metrics")
    assert 'roundhouse_requests_total{code="200",endpoint="chat.completions",model="m"} 1.0' in text
    assert 'roundhouse_requests_total{code="404",endpoint="chat.completions",model="unknown"} 1.0' in text
    assert 'roundhouse_in_flight_requests{model="m"} 0.0' in text
    assert "made-up-name" not in text
    assert world.key not in text


async def test_every_endpoint_of_the_table_reaches_the_engine_under_the_engines_own_path(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    answering = [endpoint for endpoint in ENDPOINTS if not endpoint.upgrades]
    async with world.client() as session:
        for endpoint in answering:
            headers, content = world.headers, msgspec.json.encode(chat_body("m"))
            if endpoint.body is BodyKind.FORM:
                headers, content = headers | {"content-type": CONTENT_TYPE}, form(part("model", b"m"))
            else:
                headers = headers | {"content-type": "application/json"}
            async with session.post(endpoint.path_for("m"), data=content, headers=headers) as answer:
                assert answer.status == 200, endpoint
    assert [seen.path for seen in engine.seen] == [endpoint.engine_path_for("m") for endpoint in answering]


async def test_the_openapi_document_is_complete(world: World) -> None:
    status, document = await get(world, "/openapi.json")
    assert status == 200
    for endpoint in ENDPOINTS:
        assert endpoint.method.lower() in document["paths"][endpoint.path]
    for path in ("gpus", "nodes", "models", "replicas", "ledger", "decisions", "status", "keys", "reload"):
        assert f"/admin/v1/{path}" in document["paths"]
    schemas = document["components"]["schemas"]
    assert dangling(document, schemas) == set()
    assert {"data", "simulated"} <= set(schemas["GpuList"]["properties"])
    ids = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len(ids) == len(set(ids))
    assert (await get(world, "/docs"))[0] == 200


def dangling(node: Any, schemas: dict[str, Any]) -> set[str]:
    """References to shapes that are not there."""
    if isinstance(node, list):
        return set().union(*(dangling(item, schemas) for item in node))
    if not isinstance(node, dict):
        return set()
    reference = node.get("$ref")
    own = {reference} if isinstance(reference, str) and reference.rsplit("/", 1)[-1] not in schemas else set()
    return own.union(*(dangling(value, schemas) for value in node.values()))
