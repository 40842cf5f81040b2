"""A whole installation but for its controller, in real processes: Redis, gateway workers, the meter, engines.

The test is the controller: it says what is on GPUs, and that it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from redis.asyncio import Redis

from gateway.clock import Clock
from models.home import Home
from models.store.api_keys import build_key
from models.store.client import PREFIX_ENV, URL_ENV, connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.records import ModelRoute, ReplicaRoute, RouteTable
from models.store.rollups import read, read_gpus
from models.store.tenancy import CoolDown, HouseRecord, LimitRule, PriceLine, PriceList, TenantRecord
from models.store.usage import GpuPicture, Occupant, Phase, SettledEvent
from tests.gateway.billing.ledger import PRICES

SOURCE = Path(__file__).resolve().parents[3]
SOON_S = 60.0  # what should happen at once must have happened by then; never a figure to be met
CONTROLLER_EVERY_S = 0.2
GPU_BYTES = 1 << 30
MICRO = 1_000_000
HOUSE = HouseRecord(
    price_lists={"standard": PRICES}, default_price_list="standard", cool_down=CoolDown(failures=0), key_limits=()
)


@dataclass
class City:
    """``workers`` gateway processes behind one port; ``engines`` on a GPU each, of which each model has half."""

    folder: Path
    workers: int = 1
    engines: int = 1
    house: HouseRecord = HOUSE
    models: tuple[str, ...] = ("m",)
    redis_server: EmbeddedRedis = field(default_factory=EmbeddedRedis)
    keys: Keys = field(default_factory=Keys)
    clock: Clock = field(default_factory=Clock)
    port: int = 0
    gateway: subprocess.Popen[bytes] | None = None
    meters: list[subprocess.Popen[bytes]] = field(default_factory=list)
    on_gpus: dict[str, tuple[Occupant, ...]] = field(default_factory=dict)
    pictures: list[GpuPicture] = field(default_factory=list)  # all that were told
    _engines: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _office: asyncio.Task[None] | None = None

    # -- its parts -------------------------------------------------------------------------------------------------

    async def open(self, *words: str) -> City:
        """``words``: for the gateway."""
        await asyncio.to_thread(self.redis_server.start)
        self.redis: Redis = connect_async(self.redis_server.url)
        await self.redis.set(self.keys.house, encode(self.house))
        self._engines = [self._engine(number) for number in range(self.engines)]
        await self._route()
        for number in range(self.engines):
            self.show(f"g{number}", *(self.occupant(model, number) for model in self.models))
        self._office = asyncio.create_task(self._rule())
        self.start_meter()
        await self.start_gateway(*words)
        for number in range(self.engines):
            await self.until(lambda number=number: self.engine_socket(number).exists())
        return self

    async def close(self) -> None:
        while self._office is not None and not self._office.done():
            self._office.cancel()  # which a call to Redis may answer with an error of its own, and that is passed over
            await asyncio.wait((self._office,), timeout=1.0)
        if self.gateway is not None:
            self.gateway.terminate()  # killed, a master could not end its workers as fast
            try:
                await asyncio.to_thread(self.gateway.wait, 20)
            except subprocess.TimeoutExpired:
                self.gateway.kill()
        for process in (*self.meters, *self._engines):
            process.kill()
            process.wait()
        await self.redis.aclose()
        if self.redis_server.pid is not None:
            os.kill(self.redis_server.pid, signal.SIGCONT)
        await asyncio.to_thread(self.redis_server.__exit__, None, None, None)

    @property
    def home(self) -> Home:
        return Home(self.folder / "h")

    @property
    def log(self) -> Path:
        return self.folder / "gateway.log"

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")}
        return kept | {URL_ENV: self.redis_server.url, PREFIX_ENV: self.keys.prefix, "PYTHONPATH": str(SOURCE)}

    def _spawn(self, *words: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        stderr = log.open("ab") if log is not None else subprocess.DEVNULL
        try:
            return subprocess.Popen(
                [sys.executable, "-m", *words], env=self.environ, stdin=subprocess.DEVNULL, stderr=stderr
            )
        finally:
            if log is not None:
                stderr.close()  # type: ignore[union-attr]

    async def start_gateway(self, *words: str) -> None:
        ready = self.folder / "port"
        ready.unlink(missing_ok=True)
        given = ["--home", str(self.home.root), "--port", "0", "--ready-file", str(ready), *words]
        if self.workers > 1:
            given += ["--workers", str(self.workers)]
        self.gateway = self._spawn("gateway.server", *given, log=self.log)
        await self.until(ready.exists)
        self.port = int(ready.read_text())
        await self.until_known()

    def start_meter(self) -> None:
        self.meters.append(self._spawn("gateway.billing", "--home", str(self.home.root), log=self.folder / "meter.log"))

    def kill_meters(self) -> None:
        for process in self.meters:
            process.kill()
            process.wait()
        self.meters.clear()

    def engine_socket(self, number: int) -> Path:
        return self.folder / f"e{number}.sock"

    def _engine(self, number: int) -> subprocess.Popen[bytes]:
        return self._spawn("tests.gateway.tenancy.engine_process", str(self.engine_socket(number)))

    def kill_engine(self, number: int) -> None:
        """Another one takes its place."""
        self._engines[number].kill()
        self._engines[number].wait()
        self._engines[number] = self._engine(number)

    def worker_pids(self) -> list[int]:
        assert self.gateway is not None
        if self.workers == 1:
            return [self.gateway.pid]
        with contextlib.suppress(OSError):
            return [
                int(pid)
                for pid in Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children").read_text().split()
            ]
        return []

    def silence(self) -> None:
        """Redis says nothing, and its connections stand."""
        assert self.redis_server.pid is not None
        os.kill(self.redis_server.pid, signal.SIGSTOP)

    def let_speak(self) -> None:
        assert self.redis_server.pid is not None
        os.kill(self.redis_server.pid, signal.SIGCONT)

    # -- the controller's part -------------------------------------------------------------------------------------

    def replica(self, model: str, number: int) -> str:
        return f"{model}-{number}"

    async def _route(self) -> None:
        table = RouteTable(version=1, models=tuple(self._model(name) for name in self.models))
        await self.redis.set(self.keys.routes, encode(table))

    def _model(self, name: str) -> ModelRoute:
        replicas = tuple(
            ReplicaRoute(
                replica_id=self.replica(name, number), endpoint=f"unix:{self.engine_socket(number)}", state="ready",
                memory_bytes=GPU_BYTES // 2, gpu_share=0.5,
            )
            for number in range(self.engines)
        )  # fmt: skip
        return ModelRoute(model_id=name, tier="gpu", runtime="vllm", max_model_len=8192, replicas=replicas)

    def occupant(self, model: str, number: int, phase: Phase = Phase.SERVING, size: int = GPU_BYTES // 2) -> Occupant:
        return Occupant(self.replica(model, number), model, "owner", size, phase)

    def show(self, gpu: str, *occupants: Occupant) -> None:
        """From now on this is on it; told at the controller's next step."""
        self.on_gpus[gpu] = occupants

    async def _rule(self) -> None:
        """One step after the other; a store that is away is waited for, and what was is told then."""
        told: dict[str, tuple[Occupant, ...]] = {}
        untold: list[GpuPicture] = []
        while True:
            at_us = int(self.clock.steady() * MICRO)
            for gpu, occupants in self.on_gpus.items():
                if told.get(gpu) != occupants:
                    told[gpu] = occupants
                    untold.append(GpuPicture(at_us, gpu, "n", "owned", GPU_BYTES, True, True, occupants))
            fleet = encode({"seq": 1, "updated_unix_s": at_us / MICRO, "nodes": []})
            with contextlib.suppress(Exception):  # it is away
                async with asyncio.timeout(1.0), self.redis.pipeline(transaction=True) as pipe:
                    for picture in untold:
                        pipe.xadd(self.keys.gpu_timeline, {"g": encode(picture)})
                    pipe.set(self.keys.fleet, fleet)
                    await pipe.execute()
                    self.pictures += untold
                    untold = []
            await asyncio.sleep(CONTROLLER_EVERY_S)

    # -- who may call ----------------------------------------------------------------------------------------------

    async def make_key(self, *limits: LimitRule, tenant: str = "default", rules: Sequence[LimitRule] = ()) -> str:
        """The text. ``limits``: of the key; ``rules``: of its tenant."""
        await self.redis.hset(self.keys.tenants, tenant, encode(TenantRecord(tenant, limits=tuple(rules))))
        created = build_key("k", ("inference",), 0.0, tenant=tenant)
        record = msgspec.structs.replace(created.record, limits=limits)
        await self.redis.hset(self.keys.api_keys, created.digest, encode(record))
        await self.redis.incr(self.keys.tenancy_version)
        await self.redis.publish(self.keys.tenancy_channel, b"1")
        return created.text

    async def until_known(self) -> None:
        """Every worker answers, and has its limits and routes."""
        in_a_row = 0
        async with asyncio.timeout(SOON_S):
            while in_a_row < 4 * self.workers:
                ready = False
                with contextlib.suppress(aiohttp.ClientError):
                    async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as answer:
                        ready = answer.status == 200
                in_a_row = in_a_row + 1 if ready else 0
                await asyncio.sleep(0 if ready else 0.02)

    # -- the caller's part -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def client(self, *, fresh: bool = False) -> AsyncIterator[aiohttp.ClientSession]:
        """``fresh``: each request has a connection of its own, and so any of the workers."""
        connector = aiohttp.TCPConnector(limit=0, force_close=fresh)
        timeout = aiohttp.ClientTimeout(total=SOON_S)
        async with aiohttp.ClientSession(self.url, connector=connector, timeout=timeout) as session:
            yield session

    async def until(self, holds: Any, timeout_s: float = SOON_S) -> float:
        """Seconds that it took until it was so. ``holds``: a function, or one that is awaited."""
        begun_s = time.monotonic()
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return time.monotonic() - begun_s
            assert time.monotonic() < begun_s + timeout_s, f"not so within {timeout_s} s"
            await asyncio.sleep(0.02)

    # -- the books -------------------------------------------------------------------------------------------------

    async def settled(self) -> list[SettledEvent]:
        found: Any = await self.redis.xrange(self.keys.usage_settled)
        return [msgspec.json.decode(fields[b"e"], type=SettledEvent) for _, fields in found]

    async def until_settled(self, count: int, timeout_s: float = SOON_S) -> float:
        """At least so many requests are. Seconds that it took."""

        async def enough() -> bool:
            with contextlib.suppress(Exception):
                return bool(await self.redis.xlen(self.keys.usage_settled) >= count)
            return False

        return await self.until(enough, timeout_s)

    async def totals(self) -> Counter[str]:
        now_s = time.time()
        sums: Counter[str] = Counter()
        for row in await read(self.redis, self.keys, now_s - 7200, now_s + 7200, now_s=now_s, by=()):
            sums.update(row.sums)
        return sums

    async def gpu_totals(self, bucket: Any = "none") -> Counter[str]:
        now_s = time.time()
        sums: Counter[str] = Counter()
        for row in await read_gpus(self.redis, self.keys, now_s - 7200, now_s + 7200, now_s=now_s, bucket=bucket):
            sums[row.group[0]] += row.sums["ns"]
        return sums


def chat(model: str = "m", tokens: int = 3, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens} | fields


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def priced(**prices: Any) -> HouseRecord:
    """A house with one price list."""
    line = PriceLine(model="*", **prices)
    lists = {"standard": PriceList("standard", (line,))}
    return msgspec.structs.replace(HOUSE, price_lists=lists)
