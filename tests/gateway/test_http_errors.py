"""What is wrong with a request is said as an OpenAI error object, everywhere, with a request id."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway.settings import Limits
from models.store.api_keys import hash_key
from models.store.codec import decode, encode
from models.store.records import KeyRecord
from tests.gateway.world import World, chat_body, until_async

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


async def call(world: World, method: str, path: str, **kwargs: Any) -> tuple[int, Any, Any]:
    """Checks what holds for every error, and gives (status, headers, the error)."""
    kwargs.setdefault("headers", world.headers)
    async with world.client() as session, session.request(method, path, **kwargs) as answer:
        raw = await answer.read()
        assert answer.headers["x-request-id"]
        if answer.status < 400 or method == "HEAD":
            return answer.status, answer.headers, raw
        assert answer.headers["content-type"] == "application/json"
        error = json.loads(raw)["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert error["message"]
        return answer.status, answer.headers, error


async def test_an_unknown_path(world: World) -> None:
    for path in (
        "/nope",
        "/v1/nope",
        "/v1/chat/completions/",
        "/admin/v1/nope",
        "/v1",
        "//",
        "/v1/chat%2fcompletions/x",
    ):
        status, _, error = await call(world, "POST", path, json={})
        assert (status, error["code"]) == (404, "not_found"), path


async def test_a_wrong_method_says_which_are_right(world: World) -> None:
    cases = [
        ("GET", CHAT, {"OPTIONS", "POST"}),
        ("DELETE", "/v1/messages", {"OPTIONS", "POST"}),
        ("POST", "/v1/models", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/admin/v1/keys", {"GET", "HEAD", "POST", "OPTIONS"}),
    ]
    for method, path, allowed in cases:
        status, headers, error = await call(world, method, path)
        assert (status, error["code"]) == (405, "method_not_allowed")
        assert set(headers["allow"].split(", ")) == allowed


async def test_options_and_head_are_sane_and_no_other_origin_is_invited(world: World) -> None:
    origin = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for path in (CHAT, "/v1/models", "/health", "/admin/v1/keys"):
        status, headers, _ = await call(world, "OPTIONS", path, headers=origin)
        assert status == 204
        assert "allow" in headers
        assert not [name for name in headers if name.lower().startswith("access-control")]
    for path in ("/health", "/version", "/metrics"):
        status, headers, raw = await call(world, "HEAD", path)
        assert (status, raw) == (200, b"")
        assert int(headers["content-length"]) > 0
    assert (await call(world, "HEAD", CHAT))[0] == 405


async def test_keys_that_are_missing_or_wrong(world: World) -> None:
    await world.route(world.model("m"))
    json_type = {"content-type": "application/json"}
    wrong: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer rh-wrong"},
        {"authorization": f"Basic {world.key}"},
        {"authorization": f"Bearer {world.key[:-1]}"},
        {"authorization": f"Bearer {world.key}x"},
        {"x-api-key": "rh-wrong"},
    ]
    for headers in wrong:
        for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/admin/v1/gpus")):
            body = json.dumps(chat_body("m")) if method == "POST" else None
            status, got, error = await call(world, method, path, headers=json_type | headers, data=body)
            assert (status, error["code"]) == (401, "invalid_api_key")
            assert got["www-authenticate"].startswith("Bearer")
            assert "rh-wrong" not in error["message"]


async def test_an_inference_key_is_no_admin_key_and_the_other_way_round(world: World) -> None:
    assert (await call(world, "GET", "/admin/v1/status"))[0] == 403
    assert (await call(world, "GET", "/v1/models", headers=world.admin_headers))[0] == 403


async def test_a_revoked_key_stops_at_once(world: World) -> None:
    await world.route(world.model("m"))
    assert (await call(world, "GET", "/v1/models"))[0] == 200
    digest = hash_key(world.key)
    raw = await world.redis.hget(world.keys.api_keys, digest)
    assert raw is not None
    record = decode(raw, KeyRecord, "key")
    revoked = KeyRecord(**{name: getattr(record, name) for name in record.__struct_fields__} | {"revoked_unix_s": 1.0})
    await world.redis.hset(world.keys.api_keys, digest, encode(revoked))
    await world.redis.publish(world.keys.api_keys_channel, record.key_id)

    async def refused() -> bool:
        return (await call(world, "GET", "/v1/models"))[0] == 401

    await until_async(refused)


async def test_wrong_bodies(world: World) -> None:
    await world.route(world.model("m"))
    cases = [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b"{}", "invalid_request", "model"),
        (b'{"model": 7}', "invalid_request", "model"),
        (b'{"model": ""}', "invalid_request", "model"),
        (b"[" * 50_000, "invalid_json", None),
        (b"\x00\xff", "invalid_json", None),
    ]
    for body, code, param in cases:
        status, _, error = await call(world, "POST", CHAT, data=body)
        assert (status, error["code"], error["param"]) == (400, code, param), body[:20]


async def test_an_unknown_model_also_for_streams(world: World) -> None:
    await world.route(world.model("m"))
    for streamed in (False, True):
        status, _, error = await call(world, "POST", CHAT, json=chat_body("nope", stream=streamed))
        assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")


async def test_before_the_first_table_requests_are_told_to_come_again(world: World) -> None:
    status, headers, error = await call(world, "POST", CHAT, json=chat_body("m"))
    assert (status, error["code"], headers["retry-after"]) == (503, "unavailable", "1")
    assert (await call(world, "GET", "/v1/models"))[0] == 503


async def test_a_body_that_is_not_said_to_be_json(world: World) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        status, _, error = await call(
            world, "POST", CHAT, data=json.dumps(chat_body("m")), headers=world.headers | {"content-type": kind}
        )
        assert (status, error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_cap(bare_world: World, chunked: bool) -> None:
    world = bare_world
    await world.start(Limits(max_body_bytes=10_000))
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    small, large = (json.dumps(chat_body("m", pad="x" * size)).encode() for size in (9_000, 10_000))

    def send(body: bytes) -> Any:
        async def pieces() -> Any:
            for at in range(0, len(body), 1000):
                yield body[at : at + 1000]

        return pieces() if chunked else body

    assert (await call(world, "POST", CHAT, data=send(small)))[0] == 200
    status, _, error = await call(world, "POST", CHAT, data=send(large))
    assert (status, error["code"]) == (413, "request_too_large")
    assert "10000" in error["message"]
    assert len(engine.seen) == 1


async def test_request_ids_in_and_out(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        _, headers, _ = await world.chat(session, "m", headers={"x-request-id": "my-id.1"})
        assert headers["x-request-id"] == "my-id.1"
        assert engine.seen[-1].header("x-request-id") == "my-id.1"
        for unfit in ("x" * 129, "a b", "<script>"):
            _, headers, _ = await world.chat(session, "m", headers={"x-request-id": unfit})
            assert headers["x-request-id"].startswith("req_")
            assert engine.seen[-1].header("x-request-id") == headers["x-request-id"]
    status, headers, _ = await call(world, "GET", "/nope", headers={"x-request-id": "my-id.2"})
    assert (status, headers["x-request-id"]) == (404, "my-id.2")


async def test_anthropic_paths_speak_anthropic(world: World) -> None:
    await world.route(world.model("m"))
    for path, status, kind in (
        ("/v1/messages", 404, "not_found_error"),
        ("/v1/messages/count_tokens", 404, "not_found_error"),
        ("/v1/messages/nope", 404, "not_found_error"),
    ):
        async with (
            world.client() as session,
            session.post(path, json={"model": "nope"}, headers=world.headers) as answer,
        ):
            document = await answer.json()
            assert answer.status == status
            assert (document["type"], document["error"]["type"]) == ("error", kind)
            assert document["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


async def test_what_reaches_the_engine_is_the_body_byte_for_byte_and_no_secret(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    body = b'{ "model":"m",\n"messages" : [ ], "unknown_field": [1e2, "\\u00e9"],"n":1 }'
    headers = world.headers | {"cookie": "a=b", "x-api-key": world.key, "x-custom": "kept", "te": "trailers"}
    async with world.client() as session, session.post(CHAT, data=body, headers=headers) as answer:
        assert answer.status == 200
        assert "x-engine-secret" not in answer.headers
        assert "vllm" not in str(answer.headers)
    (seen,) = engine.seen
    assert seen.body == body
    assert seen.header("x-custom") == "kept"
    assert seen.header("content-type") == "application/json"
    for secret in ("authorization", "cookie", "x-api-key", "te"):
        assert seen.header(secret) is None
    assert world.key not in str(seen.headers)


async def test_bytes_that_are_no_http_get_an_error_object_too(world: World) -> None:
    host, port = world.url.removeprefix("http://").split(":")
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"nonsense\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(junk)
        raw = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"x-request-id: req_" in head
        assert json.loads(body)["error"]["code"] == "invalid_http"


async def test_a_caller_who_leaves_in_the_middle_of_its_body_harms_nobody(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    host, port = world.url.removeprefix("http://").split(":")
    for _ in range(5):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key}\r\n"
            "content-type: application/json\r\ncontent-length: 1000\r\n\r\n{".encode()
        )
        await writer.drain()
        writer.close()
    async with world.client() as session:
        assert (await world.chat(session, "m"))[0] == 200

        async def counted() -> bool:
            async with session.get("/metrics") as answer:
                return 'code="499"' in await answer.text()

        await until_async(counted)
    assert len(engine.seen) == 1


async def test_several_requests_on_one_connection(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    async with aiohttp.ClientSession(world.url, connector=aiohttp.TCPConnector(limit=1)) as session:
        for number in range(20):
            body = chat_body("m" if number % 3 else "nope", stream=number % 2 == 0)
            async with session.post(CHAT, json=body, headers=world.headers) as answer:
                assert answer.status == (200 if number % 3 else 404)
                assert await answer.read()
