"""S6: a noisy tenant at ten times its share moves a quiet one's p99 by at most 1.5 times, over the real data plane."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

import msgspec
import pytest

from models.store.api_keys import build_key
from models.store.codec import encode
from models.store.tenancy import LimitRule, TenantRecord, What
from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.wire import head
from tests.gateway.world import chat_body

SLOTS = 8
SHARE = SLOTS // 2  # of either tenant: requests at once
WORK_S = 0.02  # the mean of an exponential one
ASKS = 100  # of the quiet tenant
PROMISED = 1.5
A_LOADED_MACHINE_S = 0.15  # callers, gateway and engine share its cores with other tests


async def tenant(town: Town, name: str, *limits: LimitRule) -> str:
    """Its key."""
    redis, keys = town.world.redis, town.world.keys
    await redis.hset(keys.tenants, name, encode(TenantRecord(tenant_id=name, limits=limits)))
    created = build_key(name, ("inference",), 0.0, tenant=name)
    await redis.hset(keys.api_keys, created.digest, encode(created.record))
    await redis.incr(keys.tenancy_version)
    return created.text


def request(key: str, work_s: float) -> bytes:
    body = msgspec.json.encode(chat_body("m", how={"work_s": work_s}))
    usual = (("authorization", f"Bearer {key}"), ("content-type", "application/json"))
    return head(*usual, ("content-length", str(len(body)))) + body


@dataclass
class Noise:
    """So many callers, each asking again and again. Who is refused comes back when it was told to, or soon after."""

    town: Town
    key: str
    callers: int
    served: int = 0
    refused: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Noise:
        self._threads = [
            threading.Thread(target=self._live, args=(Random(n),), daemon=True) for n in range(self.callers)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _live(self, rng: Random) -> None:
        with self.town.caller() as caller:
            while not self._over.is_set():
                status = caller.ask(request(self.key, rng.expovariate(1 / WORK_S))).status
                self.served += status == 200
                self.refused += status == 429
                assert status in (200, 429)
                if status == 429:
                    self._over.wait(WORK_S * 5)


def asked(town: Town, key: str) -> list[float]:
    """Seconds that each of the quiet tenant's requests took, sorted; the same requests every time."""
    rng, took_s = Random(6), []
    with town.caller() as caller:
        for _ in range(ASKS):
            began_s = time.monotonic()
            answer = caller.ask(request(key, rng.expovariate(1 / WORK_S)))
            took_s.append(time.monotonic() - began_s)
            assert answer.status == 200, answer.body
    return sorted(took_s)


def p99(took_s: list[float]) -> float:
    return took_s[int(len(took_s) * 0.99)]


@pytest.mark.parametrize("limited", [False, True], ids=["shared out fairly", "and limited"])
def test_s6_ten_times_its_share_of_one_tenant_hardly_moves_another(town: Town, limited: bool) -> None:
    rules = (LimitRule(what=What.CONCURRENT, amount=Decimal(SHARE), per=""),) if limited else ()
    quiet, noisy = town.run(tenant(town, "quiet")), town.run(tenant(town, "noisy", *rules))
    town.open(hold_limit=500, hold_timeout_s=30.0)
    town.route(town.model("m", slots=SLOTS))
    asked(town, quiet)  # connections are open, and code is warm
    with Noise(town, noisy, SHARE):
        before_s = p99(asked(town, quiet))
    with Noise(town, noisy, 40 * SHARE) as noise:  # so that a queue of one line would be felt
        beside_s = p99(asked(town, quiet))
    assert noise.served > ASKS, "it is served meanwhile"
    assert bool(noise.refused) is limited
    assert beside_s <= PROMISED * before_s + A_LOADED_MACHINE_S
