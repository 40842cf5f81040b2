"""The real stock server as an engine: one start, since it takes as long as vLLM does."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from models.demo.make import make_warmup_model
from models.runtimes import proc
from models.runtimes.client import EngineConnection
from models.runtimes.host.engine_host import EngineHost
from models.runtimes.protocol import EngineError
from models.runtimes.vllm.plain import PlainVllm
from tests.models.runtimes.http_calls import call, stream
from tests.models.runtimes.launcher.test_fallback import processes_below
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import MIB, order

pytestmark = pytest.mark.anyio

TALK = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 5, "temperature": 0}


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


async def test_vllms_own_server_behind_the_control_wire():
    before = set(processes_below(os.getpid()))
    runtime = PlainVllm("its warm-up failed")
    assert runtime.version().startswith("0.")
    await asyncio.to_thread(runtime.preimport)
    with short_folder() as folder:
        ordered = order(folder, "stock", runtime="vllm", source=make_warmup_model(folder / "models"))
        ours, theirs = socket.socketpair()
        host = asyncio.create_task(EngineHost(ordered, runtime, time.monotonic()).run(theirs))
        owner = await EngineConnection.greet(*await asyncio.open_unix_connection(sock=ours))
        status = await owner.wait_ready()
        assert status.detail == {"path": "plain", "reason": "its warm-up failed", "weights": "copied"}
        assert status.measured is not None
        assert status.measured.weights_bytes > MIB // 2
        assert status.measured.kv_cache_bytes == 64 * MIB
        assert status.measured.rss_bytes > 100 * MIB, "the server's processes count"

        body = {"model": "some-model", **TALK}
        answered, whole = await call(ordered.http_path, "/v1/chat/completions", body)
        assert answered == 200
        assert whole["usage"]["completion_tokens"] == 5
        events = [event async for event in stream(ordered.http_path, "/v1/chat/completions", {**body, "stream": True})]
        pieces = [event["choices"][0]["delta"].get("content") or "" for event in events]
        assert "".join(pieces) == whole["choices"][0]["message"]["content"]
        assert (await call(ordered.http_path, "/sleep", {}))[0] == 404
        with pytest.raises(EngineError, match="stop it instead"):
            await owner.call("sleep")

        (keeper,) = [pid for pid in set(processes_below(os.getpid())) - before if "vllm.keeper" in command_line(pid)]
        servers = {pid: proc.start_ticks(pid) for pid in (keeper, *processes_below(keeper))}
        assert len(servers) >= 3, "the keeper, the server and its core"
        await owner.call("stop")
        assert await asyncio.wait_for(host, 30) == 0
        left = {pid: command_line(pid) for pid, ticks in servers.items() if ticks and proc.start_ticks(pid) == ticks}
        assert not left, "the keeper ended after all that it kept"
        await owner.close()
        theirs.close()
