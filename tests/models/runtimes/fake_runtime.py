"""A runtime without a model: loads in no time and does, to order, whatever can go wrong."""

from __future__ import annotations

import asyncio
import ctypes
import json
import mmap
import os
import tempfile
import time
from typing import Any

from models.runtimes.protocol import Engine, EngineError, EngineOrder, Measured

NAME = "tests.models.runtimes.fake_runtime"


def perhaps_die(order: EngineOrder, during: str) -> None:
    """``dies_while_<during>: how`` in the order's arguments."""
    match order.engine_args.get(f"dies_while_{during}"):
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "shrunk file":
            with tempfile.TemporaryFile() as file:
                file.truncate(mmap.PAGESIZE)
                mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
                file.truncate(0)
                print(mapped[0])


class FakeEngine:
    def __init__(self, order: EngineOrder) -> None:
        self.order = order
        self.timings_s = {"load": 0.0}
        self.asleep = False
        self.broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.unblocked = asyncio.Event()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        message = await receive()
        match scope["path"]:
            case "/die":
                perhaps_die(self.order, "serving")
            case "/break":
                self.broken.set_result("the engine broke to order")
            case "/block":
                await self.unblocked.wait()
            case "/unblock":
                self.unblocked.set()
            case "/stream":
                await self._stream(receive, send)
                return
        sent = json.loads(message.get("body") or b"null")
        answer = json.dumps({"model": self.order.model_id, "pid": os.getpid(), "sent": sent}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    async def _stream(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _lifespan(self, receive, send):
        await receive()
        failed = "app_fails" in self.order.engine_args
        await send({"type": f"lifespan.startup.{'failed' if failed else 'complete'}"})

    async def sleep(self) -> None:
        perhaps_die(self.order, "falling_asleep")
        self._perhaps_fail("sleep")
        self.asleep = True

    async def wake(self) -> None:
        perhaps_die(self.order, "waking")
        self._perhaps_fail("wake")
        self.asleep = False

    def _perhaps_fail(self, op: str) -> None:
        if self.order.engine_args.get(f"{op}_fails"):
            raise EngineError(f"it cannot {op} today", "canary")
        if self.order.engine_args.get(f"{op}_breaks"):
            raise RuntimeError("a defect")

    def measured(self) -> Measured:
        return Measured(weights_bytes=0 if self.asleep else 7, kv_cache_bytes=0, rss_bytes=1)

    def describe(self) -> dict[str, str]:
        return {"path": "fake", "weights": self.order.engine_args.get("weights", "mapped")}

    async def watch(self) -> str:
        return await self.broken

    async def close(self) -> None:
        print("closed", flush=True)


class FakeRuntime:
    def __init__(self, name: str = "fake", preimport_s: float = 0.0) -> None:
        self.name = name
        self._preimport_s = preimport_s

    def version(self) -> str:
        return "1.2.3"

    def preimport(self) -> None:
        time.sleep(self._preimport_s)

    def warm(self, scratch: str) -> None:
        pass

    async def load(self, order: EngineOrder) -> Engine:
        asked = order.engine_args
        if "say" in asked:
            print(asked["say"], flush=True)
        perhaps_die(order, "loading")
        if "load_s" in asked:
            await asyncio.sleep(asked["load_s"])
        if "fails" in asked:
            raise EngineError(asked["fails"], asked.get("fault", "other"))
        if "defect" in asked:
            raise RuntimeError("a defect with /secret/paths in it")
        if "exits" in asked:
            os._exit(asked["exits"])
        if "environment" in asked:
            print(json.dumps({key: os.environ.get(key) for key in asked["environment"]}), flush=True)
        return FakeEngine(order)


class MissingRuntime(FakeRuntime):
    def preimport(self) -> None:
        raise ImportError("No module named 'accelerator'")


class DefectiveRuntime(FakeRuntime):
    def warm(self, scratch: str) -> None:
        raise RuntimeError("a defect")


def make() -> FakeRuntime:
    return FakeRuntime()


def slow() -> FakeRuntime:
    return FakeRuntime("slow", preimport_s=1.0)


def missing() -> FakeRuntime:
    return MissingRuntime("missing")


def defective() -> FakeRuntime:
    return DefectiveRuntime("defective")
