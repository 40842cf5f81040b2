"""GPU time is counted from pictures: with a real controller and real engines they show what the ledger holds."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from redis import Redis

from models.store.client import connect
from models.store.keys import Keys
from models.store.records import FleetRecord
from models.store.usage import GpuPicture
from tests.e2e.service import Service, until

KEYS = Keys()


class Timeline:
    """Reads along while it is written: what is settled is taken out of the store."""

    def __init__(self, redis: Redis) -> None:
        self.pictures: list[GpuPicture] = []
        self._redis = redis
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Timeline:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _follow(self) -> None:
        last: Any = "$"
        if self._redis.exists(KEYS.gpu_timeline):
            last = self._redis.xinfo_stream(KEYS.gpu_timeline)["last-generated-id"]
        while not self._over.is_set():
            found: Any = self._redis.xread({KEYS.gpu_timeline: last}, block=200)
            for _, entries in found or ():
                self.pictures += [msgspec.json.decode(fields[b"g"], type=GpuPicture) for _, fields in entries]
                last = entries[-1][0]

    def phases(self, replica: str) -> list[str]:
        return [one.phase for picture in self.pictures for one in picture.occupants if one.replica == replica]


@pytest.fixture
def redis(service: Service) -> Redis:
    return connect(f"unix://{service.home}/run/redis.sock")


def fleet(redis: Redis) -> FleetRecord:
    raw: Any = redis.get(KEYS.fleet)
    return msgspec.json.decode(raw, type=FleetRecord)


def test_a_start_and_an_end_in_pictures(service: Service, redis: Redis) -> None:
    service.order("tiny-llama", "stop")
    with Timeline(redis) as timeline:
        assert service.chat("tiny-llama").status_code == 200
        (replica,) = service.replicas("tiny-llama")
        name = replica["replica_id"]
        until(lambda: timeline.phases(name)[-1:] == ["serving"])
        last = next(one for one in reversed(timeline.pictures) if one.gpu == replica["gpu"])
        now = fleet(redis)
        (gpu,) = [one for one in now.gpus if one.id == last.gpu]
        assert (last.memory_bytes, last.node, last.pool, last.simulated) == (gpu.memory_bytes, gpu.node, gpu.pool, True)
        reserved = {one.replica_id: one.gpu_bytes for one in now.ledger if one.gpu == last.gpu}
        assert {one.replica: one.bytes for one in last.occupants} == reserved
        assert sum(reserved.values()) == gpu.reserved_bytes
        service.order("tiny-llama", "stop")
        until(lambda: name not in {one.replica for one in timeline.pictures[-1].occupants})
    phases = list(dict.fromkeys(timeline.phases(name)))
    assert phases[:2] == ["starting", "serving"]
    assert phases[-1] in ("serving", "stopping")
    times = [picture.at_us for picture in timeline.pictures]
    assert times == sorted(times)


def test_time_goes_on_while_nothing_happens(service: Service, redis: Redis) -> None:
    """Bills are settled up to there."""
    before = fleet(redis).updated_unix_s
    until(lambda: fleet(redis).updated_unix_s >= before + 1.0, timeout_s=10)
