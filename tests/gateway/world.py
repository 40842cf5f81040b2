"""A whole gateway for tests: a real server on a loopback port, real Redis, fake engines; the test is the controller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from redis.asyncio import Redis

from gateway.app import Deps, create_app
from gateway.plane.server import Server, listen, make_server
from gateway.settings import Limits
from models.home import Home
from models.store.api_keys import build_key
from models.store.client import connect, connect_async
from models.store.codec import encode
from models.store.keys import Keys
from models.store.records import DemandReport, Failure, ModelRoute, ReplicaRoute, RouteTable
from models.store.tenancy import CoolDown, HouseRecord
from tests.gateway.fake_engine import FakeEngine

SOON_S = 30.0  # what should happen at once must have happened by then; never a figure to be met


class GatewayThread:
    """The real server, on its own thread and event loop."""

    def __init__(self, deps: Deps, drain_timeout_s: float = 5.0) -> None:
        self._listener = listen("127.0.0.1", 0)
        self.port: int = self._listener.getsockname()[1]
        self._up = threading.Event()
        self.app = create_app(deps)
        self.server: Server = make_server(self.app, drain_timeout_s, self._on_listening)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def _on_listening(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._up.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(SOON_S), "the server did not start"

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not end"
        self._listener.close()


@dataclass
class World:
    redis: Redis
    redis_url: str
    keys: Keys
    sockets: Path
    limits: Limits = field(default_factory=Limits)
    cool_down: CoolDown = field(default_factory=lambda: CoolDown(failures=0))  # callers may fail as a test wants
    key: str = ""
    admin_key: str = ""
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    gateway: GatewayThread | None = None
    _table: RouteTable = field(default_factory=lambda: RouteTable(version=0))

    async def start(self, limits: Limits | None = None) -> None:
        await self.redis.set(self.keys.house, encode(HouseRecord(cool_down=self.cool_down)))
        await self.redis.incr(self.keys.tenancy_version)
        self.key = await self.make_key("tester", "inference")
        self.admin_key = await self.make_key("operator", "admin")
        deps = Deps(
            redis=connect_async(self.redis_url),
            blocking_redis=connect(self.redis_url),
            keys=self.keys,
            limits=limits or Limits(hold_timeout_s=SOON_S),
            worker="worker-1",
            home=self.home,
        )
        self.gateway = GatewayThread(deps)
        await asyncio.to_thread(self.gateway.start)

    async def stop(self) -> None:
        for engine in self.engines.values():
            engine.go_on.set()
        if self.gateway is not None:
            await asyncio.to_thread(self.gateway.stop)
        for engine in self.engines.values():
            await engine.stop()

    @property
    def home(self) -> Home:
        return Home(self.sockets / "home")

    @property
    def url(self) -> str:
        assert self.gateway is not None
        return self.gateway.url

    async def make_key(self, name: str, *scopes: str) -> str:
        created = build_key(name, scopes, 0.0)
        await self.redis.hset(self.keys.api_keys, created.digest, encode(created.record))
        return created.text

    # -- the controller's part -------------------------------------------------------------------------------------

    async def engine(self, replica: str, **kwargs: Any) -> FakeEngine:
        """Start an engine; ``route`` makes it known."""
        self.engines[replica] = await FakeEngine(self.sockets / f"{replica}.sock", **kwargs).start()
        return self.engines[replica]

    async def route(self, *models: ModelRoute) -> int:
        """Publish a table with these models, and wait until the gateway goes by it. Its version."""
        version = await self.announce(*models)
        await self.until_report(lambda report: report.routes_version >= version)
        return version

    async def announce(self, *models: ModelRoute) -> int:
        self._table = RouteTable(version=self._table.version + 1, models=models)
        await self.redis.set(self.keys.routes, encode(self._table))
        await self.redis.publish(self.keys.routes_channel, self._table.version)
        return self._table.version

    def model(
        self, name: str, *replicas: str, state: str = "ready", failure: Failure | None = None, **kwargs: Any
    ) -> ModelRoute:
        """A model whose ``replicas`` are engines of this world."""
        there = tuple(ReplicaRoute(replica_id=r, endpoint=self.engines[r].endpoint, state=state) for r in replicas)
        return ModelRoute(model_id=name, replicas=there, failure=failure, tier="gpu" if there else "disk", **kwargs)

    async def report(self) -> DemandReport | None:
        raw = await self.redis.get(self.keys.demand("worker-1"))
        return None if raw is None else msgspec.json.decode(raw, type=DemandReport)

    async def until_report(self, holds: Callable[[DemandReport], bool]) -> DemandReport:
        async def look() -> DemandReport | None:
            report = await self.report()
            return report if report is not None and holds(report) else None

        found = await until_async(look)
        assert isinstance(found, DemandReport)
        return found

    async def until_idle(self, model: str) -> None:
        """Nothing of this model is held or in flight."""
        await self.until_report(lambda r: model in r.models and not (r.models[model].held or r.models[model].in_flight))

    async def until_held(self, model: str, count: int) -> None:
        await self.until_report(lambda report: model in report.models and report.models[model].held == count)

    # -- the caller's part -----------------------------------------------------------------------------------------

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json"}

    @property
    def admin_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.admin_key}"}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(
            self.url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        ) as session:
            yield session

    async def chat(self, session: aiohttp.ClientSession, model: str, **fields: Any) -> tuple[int, Any, Any]:
        """(status, headers, JSON) of one unstreamed chat request."""
        headers = self.headers | fields.pop("headers", {})
        async with session.post("/v1/chat/completions", json=chat_body(model, **fields), headers=headers) as answer:
            return answer.status, answer.headers, await answer.json()


def chat_body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]} | fields


async def until(holds: Callable[[], Any]) -> Any:
    """Wait for something that happens in another task."""

    async def look() -> Any:
        return holds()

    return await until_async(look)


async def until_async(look: Callable[[], Any]) -> Any:
    with suppress(TimeoutError):
        async with asyncio.timeout(SOON_S):
            while not (found := await look()):
                await asyncio.sleep(0.005)
            return found
    raise AssertionError("it did not happen")
