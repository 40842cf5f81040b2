"""``roundhouse gateway`` as a process, with the SDK that people use, in front of real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from models.store.api_keys import hash_key
from tests.gateway.certificates import ONE, ONE_KEY
from tests.gateway.fake_engine import FakeEngine
from tests.gateway.standalone.standing import Standing
from tests.gateway.world import until, until_async

pytestmark = pytest.mark.anyio

COUNTED = 'roundhouse_requests_total{code="200",endpoint="chat.completions",model="m"}'
USER: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def engine(standing: Standing) -> AsyncIterator[FakeEngine]:
    """An upstream in this process, which tells what it was asked."""
    engine = await FakeEngine(standing.socket("engine")).start()
    yield engine
    engine.go_on.set()
    await engine.stop()


async def test_the_openai_sdk_talks_to_upstreams_of_a_file(standing: Standing, engine: FakeEngine) -> None:
    standing.write_routes(standing.model("m", "engine", aliases=["gpt-4o"], context_length=4096))
    await standing.start()
    async with standing.openai() as client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=USER)
        assert answer.choices[0].message.content == "one two three"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 5
        stream: Any = await client.chat.completions.create(model="m", messages=USER, stream=True)
        said = [event.choices[0].delta.content or "" async for event in stream if event.choices]
        assert "".join(said) == "one two three"
        assert [each.id async for each in client.models.list()] == ["m"]
        assert (await client.models.retrieve("gpt-4o")).id == "m"
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.chat.completions.create(model="other", messages=USER)
    standing.signal(signal.SIGTERM)
    assert await standing.ended() == 0, standing.log.read_text()


async def test_what_is_there_besides(standing: Standing, engine: FakeEngine) -> None:
    standing.write_routes(standing.model("m", "engine"))
    await standing.start()
    assert await standing.get("/health") == {"status": "ok"}
    ready = await standing.get("/readyz")
    assert ready == {"status": "ready", "routes_version": 1, "models": 1, "routes": "in_force"}
    assert set(await standing.get("/version")) == {"version"}
    assert (await standing.get("/nothing"))["error"]["code"] == "not_found"
    async with standing.client() as session:
        await standing.ask(session, "m")
        async with session.get("/metrics") as answer:
            assert (
                'roundhouse_requests_total{code="200",endpoint="chat.completions",model="m"} 1.0' in await answer.text()
            )
        async with session.post("/health") as answer:
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        async with session.head("/readyz") as answer:
            assert (answer.status, await answer.read()) == (200, b"")


async def test_an_upstream_gets_its_own_key_its_headers_and_its_name_of_the_model(
    standing: Standing, engine: FakeEngine
) -> None:
    upstream = {"url": f"unix:{engine.socket}", "model": "org/m", "api_key_env": "UPSTREAM", "headers": {"x-team": "t"}}
    standing.write_routes({"model_id": "m", "upstreams": [upstream]})
    await standing.start(UPSTREAM="sk-upstream")
    async with standing.client("rh-caller") as session:
        status, _ = await standing.ask(session, "m")
    assert status == 200
    (seen,) = [each for each in engine.seen if each.path == "/v1/chat/completions"]
    assert (seen.header("authorization"), seen.header("x-team")) == ("Bearer sk-upstream", "t")
    assert seen.json["model"] == "org/m"
    assert "rh-caller" not in str(seen.headers)
    assert "sk-upstream" not in standing.log.read_text()


async def test_only_those_who_are_listed_may_call(standing: Standing, engine: FakeEngine) -> None:
    standing.write_routes(standing.model("m", "engine"))
    standing.write_keys(
        {"name": "a", "hash": hash_key("rh-a")},
        {"name": "gone", "hash": hash_key("rh-gone"), "revoked": True},
        {"name": "admin", "hash": hash_key("rh-admin"), "scopes": ["admin"]},
    )
    await standing.start("--keys", str(standing.keys))

    async def status(key: str) -> int:
        async with standing.client(key) as session:
            return (await standing.ask(session, "m"))[0]

    assert [await status(key) for key in ("rh-a", "rh-b", "rh-gone", "rh-admin", "")] == [200, 401, 401, 403, 401]
    assert (await standing.get("/v1/models", "rh-b"))["error"]["code"] == "invalid_api_key"
    assert (await standing.get("/v1/models", "rh-a"))["data"][0]["id"] == "m"
    standing.write_keys({"name": "b", "hash": hash_key("rh-b")})
    standing.signal(signal.SIGHUP)

    async def taken() -> bool:
        return await status("rh-b") == 200

    await until_async(taken)
    assert await status("rh-a") == 401
    assert "rh-a" not in standing.log.read_text()


async def test_without_keys_nobody_needs_one(standing: Standing, engine: FakeEngine) -> None:
    standing.write_routes(standing.model("m", "engine"))
    await standing.start()
    async with standing.client("") as session:
        assert (await standing.ask(session, "m"))[0] == 200
    assert (await standing.get("/v1/models", ""))["data"][0]["id"] == "m"
    await until(lambda: standing.events("request"))
    assert "No keys are named: everybody on this machine may call." in standing.log.read_text()


async def test_with_a_certificate_it_speaks_tls(standing: Standing, engine: FakeEngine) -> None:
    cert, key = standing.folder / "cert.pem", standing.folder / "key.pem"
    cert.write_text(ONE)
    key.write_text(ONE_KEY)
    standing.write_routes(standing.model("m", "engine"))
    await standing.start("--tls-cert", str(cert), "--tls-key", str(key), scheme="https")
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    async with standing.client() as session, session.get("/health", ssl=trusting) as answer:
        assert await answer.json() == {"status": "ok"}


async def test_only_what_went_wrong_is_logged_where_that_is_asked_for(standing: Standing, engine: FakeEngine) -> None:
    standing.write_routes(standing.model("m", "engine"))
    await standing.start("--access-log", "errors")
    async with standing.client() as session:
        assert (await standing.ask(session, "m"))[0] == 200
        assert (await standing.ask(session, "other"))[0] == 404
    standing.signal(signal.SIGTERM)
    assert await standing.ended() == 0, standing.log.read_text()
    assert [each["status"] for each in standing.events("request")] == [404]


# -- edits -----------------------------------------------------------------------------------------------------------


async def test_an_edit_is_taken_up_while_what_is_under_way_goes_on(standing: Standing, engine: FakeEngine) -> None:
    await standing.upstream("other")
    standing.write_routes(standing.model("m", "engine"))
    await standing.start()
    async with standing.openai() as client, standing.client() as session:
        fake = {"fake": {"do": "stream", "pause_after": 2}}
        stream: Any = await client.chat.completions.create(model="m", messages=USER, stream=True, extra_body=fake)
        said = [await anext(stream)]
        standing.write_routes(standing.model("m", "other"), standing.model("new", "other"))

        async def taken() -> bool:
            return (await standing.ask(session, "new"))[0] == 200

        await until_async(taken)
        assert await standing.who(session, "m") == "other", "new requests go by the new file"
        engine.go_on.set()
        said += [event async for event in stream]
        assert "".join(event.choices[0].delta.content or "" for event in said if event.choices) == "one two three"
    assert len(engine.seen) == 1


async def test_a_wrong_edit_is_told_and_changes_nothing(standing: Standing, engine: FakeEngine) -> None:
    standing.write_routes(standing.model("m", "engine"))
    await standing.start()
    standing.write_routes({**standing.model("m", "engine"), "contxt_length": 1}, standing.model("m", "engine"))
    standing.signal(signal.SIGHUP)
    await until(lambda: standing.events("an edit cannot be taken; what was in force stays"))
    (told,) = standing.events("an edit cannot be taken; what was in force stays")
    wanted = "models[0].contxt_length: is not a known key; did you mean context_length?"
    assert any(wanted in problem for problem in told["problems"])
    assert (await standing.get("/readyz"))["routes"] == "rejected"
    async with standing.client() as session:
        assert (await standing.ask(session, "m"))[0] == 200
    standing.write_routes(standing.model("m", "engine"), standing.model("n", "engine"))
    standing.signal(signal.SIGHUP)

    async def taken() -> bool:
        return bool((await standing.get("/readyz"))["models"] == 2)

    await until_async(taken)
    assert (await standing.get("/readyz"))["routes"] == "in_force"


async def test_edits_under_load_lose_no_request(standing: Standing) -> None:
    await standing.upstream("a")
    await standing.upstream("b")
    standing.write_routes(standing.model("m", "a"))
    await standing.start()
    over = asyncio.Event()
    seen: Counter[str] = Counter()

    async def call() -> None:
        async with standing.client() as session:
            while not over.is_set():
                seen[await standing.who(session, "m")] += 1

    async def more_from(name: str) -> None:
        enough = seen[name] + 5
        await until(lambda: seen[name] > enough or any(caller.done() for caller in callers))

    callers = [asyncio.create_task(call()) for _ in range(4)]
    for wanted in "bababa":
        standing.write_routes(standing.model("m", wanted))
        standing.signal(signal.SIGHUP)
        await more_from(wanted)
    over.set()
    await asyncio.gather(*callers)
    assert set(seen) == {"a", "b"}


# -- upstreams and workers that die ------------------------------------------------------------------------------------


async def test_no_request_is_lost_when_one_of_two_upstreams_is_killed(standing: Standing) -> None:
    first = await standing.upstream("a")
    await standing.upstream("b")
    standing.write_routes(standing.model("m", "a", "b"))
    await standing.start()
    seen: Counter[str] = Counter()

    async def call(number: int) -> None:
        async with standing.client() as session:
            for turn in range(40):
                # Prompts of their own, so that affinity does not send all of them to one upstream.
                seen[await standing.who(session, "m", messages=[{"role": "user", "content": f"{number}-{turn}"}])] += 1

    callers = [asyncio.create_task(call(number)) for number in range(4)]
    await until(lambda: seen["a"] > 5 and seen["b"] > 5)
    first.kill()
    await asyncio.gather(*callers)
    assert sum(seen.values()) == 160


async def test_an_upstream_that_comes_back_is_used_again(standing: Standing) -> None:
    first = await standing.upstream("a")
    standing.write_routes(standing.model("m", "a"), hold_timeout="5s")
    await standing.start()
    async with standing.client() as session:
        assert await standing.who(session, "m") == "a"
        first.kill()
        first.wait()
        standing.socket("a").unlink()
        waiting = asyncio.create_task(standing.who(session, "m"))
        await standing.upstream("a")
        assert await waiting == "a", "it was held until then"


async def test_an_upstream_that_falls_silent_is_passed_over(standing: Standing) -> None:
    """Noticed on the request path: the request that waits there is answered by the other one (promise R3)."""
    first = await standing.upstream("a")
    await standing.upstream("b")
    standing.write_routes(standing.model("m", "a", "b"))
    await standing.start()
    async with standing.client() as session:
        first.send_signal(signal.SIGSTOP)
        try:
            texts = ([{"role": "user", "content": f"{number}"}] for number in range(16))
            seen = await asyncio.gather(*(standing.who(session, "m", messages=text) for text in texts))
            assert set(seen) == {"b"}
            assert any(name.startswith("m@unix:") for name in _ejected(standing))
        finally:
            first.send_signal(signal.SIGCONT)
        await until(lambda: standing.events("replica answers again"))


def _ejected(standing: Standing) -> list[str]:
    return [each["replica"] for each in standing.events("replica is out until it answers")]


@pytest.mark.parametrize("broken", [False, True])
async def test_a_worker_that_dies_is_replaced_by_one_that_goes_by_what_was_in_force(
    standing: Standing, engine: FakeEngine, broken: bool
) -> None:
    standing.write_routes(standing.model("m", "engine"))
    await standing.start("--workers", "2")
    standing.write_routes(standing.model("n", "engine"))
    standing.signal(signal.SIGHUP)
    await until(lambda: len([each for each in standing.events("routes") if each["version"] == 2]) == 2)
    if broken:
        standing.routes.write_text("models: [")
    first = next(each for each in standing.events("listening") if "worker" in each)
    os.kill(first["pid"], signal.SIGKILL)
    async with standing.client() as session:
        statuses = {(await standing.ask(session, "n"))[0] for _ in range(20)}
    assert statuses == {200}
    await until(
        lambda: len([each for each in standing.events("listening") if each.get("worker") == first["worker"]]) == 2
    )


async def test_several_workers_go_by_the_same_files(standing: Standing, engine: FakeEngine) -> None:
    standing.write_routes(standing.model("m", "engine"))
    await standing.start("--workers", "2")
    async with standing.client() as session:
        for _ in range(20):
            assert (await standing.ask(session, "m"))[0] == 200
        async with session.get("/metrics") as answer:
            text = await answer.text()
        assert f"{COUNTED} 20.0\n" in text
        assert "roundhouse_gateway_workers 2.0" in text
        standing.write_routes(standing.model("n", "engine"))
        standing.signal(signal.SIGHUP)
        await until(lambda: len([each for each in standing.events("routes") if each["version"] == 2]) == 2)
        statuses = {(await standing.ask(session, "n"))[0] for _ in range(20)}
    assert statuses == {200}
    standing.signal(signal.SIGTERM)
    assert await standing.ended() == 0, standing.log.read_text()


# -- starting ----------------------------------------------------------------------------------------------------------


async def refused(standing: Standing, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "gateway.cli", "gateway", "--routes", str(standing.routes), *words]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


async def test_open_to_all_only_on_loopback(standing: Standing) -> None:
    standing.write_routes(standing.model("m", "engine"))
    status, said = await refused(standing, "--host", "0.0.0.0")
    assert status == 2
    assert "without keys everybody who reaches 0.0.0.0 could call" in said
    assert "--keys" in said


async def test_a_port_that_is_taken_is_said_clearly(standing: Standing) -> None:
    standing.write_routes(standing.model("m", "engine"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for workers in ("1", "2"):
            status, said = await refused(standing, "--port", str(port), "--workers", workers)
            assert status == 1
            assert f"cannot listen on 127.0.0.1 port {port}" in said
            assert "Traceback" not in said


def test_a_worker_loads_no_engine_and_no_second_http_stack() -> None:
    root = Path(__file__).resolve().parents[3]
    heavy = {"ray", "torch", "vllm", "transformers", "aiohttp", "uvicorn", "numpy", "rich"}
    code = (
        "import sys, gateway.standalone.__main__\n"
        "from gateway import lean\n"
        "with lean.without(*lean.UNUSED, lean.COLOURS):\n"
        "    import gateway.standalone.app, gateway.plane.server, gateway.seat\n"
        f"print(sorted({{name.split('.')[0] for name in sys.modules if sys.modules[name]}} & {heavy!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
